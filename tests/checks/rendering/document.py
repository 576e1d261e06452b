"""A document as HTML, with the measures of GitHub's pages."""

from html import escape
from pathlib import Path

from markdown_it import MarkdownIt

# The sizes are GitHub's: of text, of code, of tables, and of the column that they stand in.
STYLE = """
:root { color-scheme: light dark; --text: #1f2328; --page: #ffffff; --dim: #59636e; --line: #d1d9e0; --code: #f6f8fa;
  --inline: #818b981f; --link: #0969da }
@media (prefers-color-scheme: dark) { :root { --text: #f0f6fc; --page: #0d1117; --dim: #9198a1; --line: #3d444d;
  --code: #151b23; --inline: #656c7633; --link: #4493f8 } }
body { margin: 0; background: var(--page); color: var(--text); overflow-wrap: break-word;
  font: 16px/1.5 -apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif }
main { box-sizing: border-box; max-width: 1012px; margin: 0 auto; padding: 32px }
@media (max-width: 767px) { main { padding: 16px } }
h1, h2, h3, h4 { margin: 24px 0 16px; line-height: 1.25; font-weight: 600 }
h1, h2 { padding-bottom: .3em; border-bottom: 1px solid var(--line) }
h1 { font-size: 2em; margin-top: 0 } h2 { font-size: 1.5em } h3 { font-size: 1.25em } h4 { font-size: 1em }
p, ul, ol, table, pre, picture { margin: 0 0 16px }
ul, ol { padding-left: 2em } li + li { margin-top: .25em }
a { color: var(--link) } img { max-width: 100%; box-sizing: content-box }
code, pre { font: 85%/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace }
code { padding: .2em .4em; background: var(--inline); border-radius: 6px; white-space: break-spaces }
pre { padding: 16px; overflow: auto; background: var(--code); border-radius: 6px }
pre code { padding: 0; font-size: 100%; background: none; white-space: pre }
table { display: block; width: max-content; max-width: 100%; overflow: auto; border-collapse: collapse }
th, td { padding: 6px 13px; border: 1px solid var(--line) }
blockquote { margin: 0 0 16px; padding: 0 1em; color: var(--dim); border-left: .25em solid var(--line) }
"""


def as_html(path: Path, root: Path) -> str:
    """Return a document of the repository as a page.

    Args:
        path: The document.
        root: The folder of the repository, in which its pictures are.
    """
    markdown = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    body = markdown.render(path.read_text(encoding="utf-8"))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<base href="{path.parent.resolve().as_uri()}/"><title>{escape(path.relative_to(root).as_posix())}</title>'
        f"<style>{STYLE}</style></head><body><main>{body}</main></body></html>"
    )
