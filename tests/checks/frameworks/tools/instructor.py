"""What instructor makes of a call is the object; it runs nothing."""


def run(example, prompt, get_weather):
    """Take the last state of the object."""
    question = {"role": "user", "content": prompt}
    *_, weather = example["client"].create_partial(example["Weather"], messages=[question], model=example["model"])
    get_weather(weather.city)
