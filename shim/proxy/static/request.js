// The request of the page, for a terminal and for a program.

const KEY_VARIABLE = "FOUNDRY_SHIM_API_KEY";

function curlOf(address, body, needsKey) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  return [
    `curl --no-buffer ${quoted(`${address}/chat/completions`)}`,
    "-H 'Content-Type: application/json'",
    ...(needsKey ? [`-H "Authorization: Bearer $${KEY_VARIABLE}"`] : []),
    `-d ${quoted(JSON.stringify({ ...body, stream: true }, null, 2))}`,
  ].join(" \\\n  ");
}

function pythonOf(address, body, needsKey) {
  const messages = body.messages.map((message) => `        ${JSON.stringify(message)},\n`).join("");
  const others = Object.entries(body).filter(([name]) => name !== "messages");
  const key = needsKey ? `os.environ["${KEY_VARIABLE}"]` : '"none"';
  return `${needsKey ? "import os\n\n" : ""}from openai import OpenAI

client = OpenAI(base_url=${JSON.stringify(address)}, api_key=${key})
stream = client.chat.completions.create(
${others.map(([name, value]) => `    ${name}=${JSON.stringify(value)},\n`).join("")}    messages=[
${messages}    ],
    stream=True,
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
`;
}
