"""The benchmarks: their arithmetic, and that they measure what they claim. How long anything takes does not matter."""

import gc
import itertools
import json
import runpy
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from checks import benchmarks
from checks.benchmarks import core, linear, memory, plot, ways
from checks.benchmarks.client import AGAIN, ALONE, REPAIR, SENT_REPAIRED, SHIM, TRANSPORT
from checks.benchmarks.corpus import CALL_STREAMS, RELEASES, REPAIRED, events, recorded
from checks.benchmarks.delay import percentile
from checks.benchmarks.harness import (
    SEED,
    Measured,
    NotMeasuredError,
    Row,
    Samples,
    Settings,
    calibrated,
    compared,
    interleaved,
    timed,
)
from support.streams import DONE, payloads, text_of
from support.streams import END as END_MARKER

PROGRAM = runpy.run_path(str(Path(benchmarks.__file__).with_name("__main__.py")), run_name="checks.benchmarks.__main__")
main, MEASURES = PROGRAM["main"], PROGRAM["MEASURES"]
QUICK = Settings(rounds=1, quick=True)


class TestHarness:
    """Subjects take turns."""

    def order(self, settings):
        """Which subject ran when."""
        ran = []

        def subject(name):
            return lambda: ran.append(name) or float(len(ran))

        samples = interleaved({name: subject(name) for name in "abc"}, settings)
        return ran, samples

    def test_all_subjects_run_in_each_round_after_warming_up(self):
        """Each runs once for warming up, which does not count, and once a round."""
        ran, samples = self.order(Settings(rounds=7))
        turns = [tuple(ran[start : start + 3]) for start in range(0, len(ran), 3)]
        assert turns[0] == ("a", "b", "c")
        assert [sorted(turn) for turn in turns] == [["a", "b", "c"]] * 8
        assert {name: len(each) for name, each in samples.figures.items()} == {"a": 7, "b": 7, "c": 7}
        assert min(min(each) for each in samples.figures.values()) == 4.0

    def test_order_is_shuffled_and_the_seed_decides(self):
        """The same seed gives the same order, another seed another one."""
        first, again, other = (self.order(Settings(rounds=9, seed=seed))[0] for seed in (SEED, SEED, SEED + 1))
        assert first == again != other
        assert len({tuple(first[start : start + 3]) for start in range(0, len(first), 3)}) > 1

    def test_figures_stay_with_their_subject_and_round(self):
        """The order in which a round runs is not the order in which its figures are kept."""
        counts = {"one": itertools.count(), "ten": itertools.count(10)}
        samples = interleaved({name: lambda count=count: next(count) for name, count in counts.items()}, Settings(7))
        assert samples.figures == {"one": [1, 2, 3, 4, 5, 6, 7], "ten": [11, 12, 13, 14, 15, 16, 17]}

    def test_least_median_and_ratios(self):
        """The ratio is one of the best rounds; in brackets stands the middle one of the rounds' own ratios."""
        samples = Samples("µs", {"alone": [10.0, 20.0, 40.0], "shim": [15.0, 18.0, 44.0]})
        assert (samples.least("shim"), samples.median("shim")) == (15.0, 18.0)
        assert samples.ratio("shim", to="alone") == 1.5
        assert samples.median_ratio("shim", to="alone") == pytest.approx(1.1)
        row = compared("what", samples, "shim", "alone", most=1.5)
        assert (row.ratio, row.target, row.met) == ("1.500 (1.100)", "≤ 1.50", True)
        assert row.figures == "alone 10.0 (20.0), shim 15.0 (18.0) µs"
        assert compared("what", samples, "shim", "alone", most=1.49).met is False
        assert compared("what", samples, "shim", "alone").met is None

    def test_best_quarter(self):
        """Of many rounds a quarter counts, of few the best."""
        samples = Samples("µs", {"a": [8.0, 1.0, 3.0, 9.0, 9.0, 9.0, 9.0, 9.0], "b": [5.0, 4.0]})
        assert (samples.best("a"), samples.best("b")) == (2.0, 4.0)
        assert samples.ratio("a", to="b") == 0.5

    def test_calibration_repeats_until_it_takes_long_enough(self):
        """What takes a microsecond is repeated often, what takes a second is not."""
        assert calibrated(lambda times: times * 1e-6, 0.02) >= 20_000
        assert calibrated(lambda times: times * 1.0, 0.02) == 1

    def test_timed_divides_by_repeats_and_items_and_keeps_the_collector_out(self):
        """A millisecond for each action of ten items is 100 µs for each item, however often it is repeated."""
        seconds = [0.0]
        collecting = []

        def action():
            seconds[0] += 0.001
            collecting.append(gc.isenabled())

        subject = timed(action, 10, clock=lambda: seconds[0])
        assert [subject(), subject()] == pytest.approx([100.0, 100.0])
        assert len(collecting) > 10
        assert not any(collecting)
        assert gc.isenabled()

    def test_more_rounds_only_where_it_is_thorough(self):
        """A quick run has as many rounds as it is told."""
        assert Settings(rounds=7).times(4).rounds == 28
        assert QUICK.times(4).rounds == 1
        assert (QUICK.size(100, 1), Settings().size(100, 1)) == (1, 100)

    def test_percentile(self):
        """The 99th of a hundred is the last but none."""
        assert percentile([float(number) for number in range(100)], 99) == 99.0
        assert percentile([float(number) for number in range(100)], 50) == 50.0
        assert percentile([1.0], 99) == 1.0


class TestCommand:
    """``python tests/checks/benchmarks``, with measures that measure nothing."""

    asked: list[Settings]

    @pytest.fixture
    def run(self):
        """The command, with two measures that succeed and one that cannot be taken."""
        self.asked = []

        def good(settings):
            self.asked.append(settings)
            return Measured([Row("good", "1 µs", "1.0", "≤ 2", met=True)], {"good": Samples("µs", {"a": [1.0, 2.0]})})

        def bad(settings):
            return Measured([Row("bad", "3 µs", "3.0", "≤ 2", met=False)])

        def absent(settings):
            raise NotMeasuredError("there is no service")

        return lambda *arguments: main(arguments, {"good": good, "bad": bad, "absent": absent})

    def test_exit_code_tells_of_targets_only_where_it_is_asked(self, run, capsys):
        """A timing is no test."""
        assert run() == 0
        assert run("--gate") == 1
        assert run("--gate", "--only", "good") == 0
        assert "not measured: there is no service" in capsys.readouterr().out

    def test_options_reach_the_measures(self, run):
        """Rounds, seed and how thoroughly."""
        run("--only", "good")
        run("--only", "good", "--rounds", "7", "--seed", "3")
        run("--only", "good", "--quick")
        assert self.asked == [Settings(9), Settings(7, seed=3), Settings(1, quick=True)]

    @pytest.mark.parametrize("arguments", [("--only", "godo"), ("--rounds", "6")])
    def test_wrong_usage(self, run, arguments, capsys):
        """A name that does not exist, and fewer rounds than a minimum needs."""
        with pytest.raises(SystemExit):
            run(*arguments)
        assert "error:" in capsys.readouterr().err


class TestStreams:
    """What is measured."""

    @pytest.mark.parametrize("release", RELEASES.values())
    @pytest.mark.parametrize("count", [10, 5000])
    def test_recording_of_any_length_begins_and_ends_as_it_was(self, release, count):
        """Cut short or gone through again, each event is one of the recording."""
        found = list(events(release, count))
        assert abs(len(found) - count) <= 1
        assert found[0] == recorded(release)[0]
        assert found[-3:] == list(recorded(release)[-3:])
        assert found.count(DONE) == 1
        assert set(found) <= set(recorded(release))

    @pytest.mark.parametrize("name", CALL_STREAMS)
    def test_streams_with_tools_are_streams(self, name):
        """Each ends as a stream does; those of calls give calls."""
        body = b"".join(events(name, 40))
        assert list(payloads(body))[-1] == END_MARKER
        assert len(list(payloads(body))) == 42
        out = linear.run(list(events(name, 40))).report
        assert out.events == 41

    def test_repaired_stream_is_what_the_shim_makes(self):
        """Nothing is left to be repaired in it, and no text is lost."""
        came, left = (b"".join(events(name + RELEASES["1.x"], 100)) for name in ("", REPAIRED))
        assert not core.repaired([left]).report.repairs
        assert text_of(list(payloads(left))[:-1]) == text_of(list(payloads(came))[:-1])

    def test_conforming_recording_is_conforming(self):
        """Or its ratio would be one of repairs."""
        assert not core.repaired(events(RELEASES["2.x"], 100)).report.repairs
        assert core.repaired(events(RELEASES["1.x"], 100)).report.repairs


class TestMeasures:
    """The measures themselves, over little."""

    def test_client_over_a_socket(self, json_of, capsys):
        """The real one in its quick form: all figures are there, and a conforming stream is the same to the byte."""
        content = json_of("client")
        samples = content["measures"]["client"]["samples"]
        for title, each in samples.items():
            compared = {ALONE, SHIM, TRANSPORT, REPAIR if "per request" in title else AGAIN}
            assert set(each["figures"]) == (compared | {SENT_REPAIRED} if "chunk, 1.x" in title else compared)
        assert all(
            figure > 0 for each in samples.values() for figures in each["figures"].values() for figure in figures
        )
        assert content["measures"]["client"]["rows"][-1]["ratio"] == "identical"
        assert "client CPU per chunk with shim.OpenAI, 1.x stream" in capsys.readouterr().out

    def test_other_ways_to_ask(self, json_of):
        """Each is taken with both clients."""
        samples = json_of("ways")["measures"]["ways"]["samples"]
        assert len(samples) == len(ways.WAYS)
        assert all(figures > [0] for each in samples.values() for figures in each["figures"].values())

    def test_picture_of_the_peers(self):
        """A bar for each, the longest for the most."""
        samples = Samples("µs", {"openai": [100.0, 90.0], "shim.OpenAI": [9.0, 18.0], "a <b>": [45.0, 50.0]})
        svg = ET.fromstring(plot.picture({"CPU per chunk": samples}))  # noqa: S314 - it is our own
        bars = [float(bar.get("width")) for bar in svg.findall("{*}rect") if bar.get("class").startswith("bar")]
        assert [round(bar / bars[0], 2) for bar in bars] == [1.0, 0.1, 0.5]
        assert [bar.get("class") for bar in svg.findall("{*}rect")] == ["page", "bar", "bar ours", "bar"]
        assert {"90", "9", "45", "a <b>"} <= {text.text for text in svg.findall("{*}text")}

    @pytest.fixture
    def json_of(self, tmp_path, monkeypatch):
        """Run a measure by the command and give its JSON."""
        # Nothing is encrypted here, and to read all certificates for each client would take longer than the rest.
        monkeypatch.setenv("SSL_CERT_FILE", "")
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))

        def run(name):
            path = tmp_path / "figures.json"
            assert main(["--quick", "--only", name, "--json", str(path)]) == 0
            return json.loads(path.read_text(encoding="utf-8"))

        return run

    def test_decoders_find_every_event(self):
        """The scan and the peers do what they are compared for, however the stream is cut."""
        each = list(events(RELEASES["2.x"], 20))
        body = b"".join(each)
        for pieces in (each, [body]):
            assert core.scan(pieces) == len(each)
            for name, decode in core.decoders().items():
                assert len(list(decode(pieces))) in (len(each), len(each) - 1), name

    @pytest.mark.parametrize("shape", linear.SHAPES)
    def test_shape_doubles(self, shape):
        """Twice the size is twice the input, and the core takes it."""
        one, two = (sum(map(len, linear.SHAPES[shape](size))) for size in (16_000, 32_000))
        assert 1.9 < two / one < 2.1
        linear.run(linear.SHAPES[shape](1000))

    def test_worst_shape_is_told(self, monkeypatch):
        """A shape of which twice the size is eight times the input."""
        bad = {"cubic": lambda size: [b": x\n" * (size // 2048) ** 3], "flat": lambda size: [b": x\n"]}
        monkeypatch.setattr(linear, "SHAPES", bad)
        monkeypatch.setattr(linear, "_milliseconds", lambda pieces: lambda: float(len(pieces[0])))
        assert "cubic" in linear.measure(QUICK).rows[-1].figures

    def test_memory_that_grows_is_seen(self):
        """What is kept for each chunk is in the mark; what is kept once is not."""
        kept = []
        marks = [memory.peak(lambda count: kept.extend(bytes(100) for _ in range(count)), size) for size in (100, 1000)]
        assert marks[1] - marks[0] > 900 * 100
        marks = [memory.peak(lambda count: sum(len(bytes(100)) for _ in range(count)), size) for size in (100, 1000)]
        assert marks[1] - marks[0] < 900
        assert memory.peak(bytes, 100_000) > 100_000  # what is gone by the end counts, too

    def test_every_measure_has_a_name(self):
        """By what ``--only`` takes."""
        names = "service client ways peers core delay linear memory import haiku proxy"
        assert list(MEASURES) == names.split()
