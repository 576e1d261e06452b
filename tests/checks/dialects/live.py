"""What becomes of each spelling where a real Foundry Local says it: with the scripted model, of several releases."""

import string
from collections.abc import Sequence

import shim
from checks.dialects.table import RIGHT, outcome_of
from checks.dialects.ways import PLAIN, STREAMED, wanted
from shim.offline.fetch import cache_root
from support.call_columns import Case
from support.releases import RELEASES as KNOWN
from support.scripted_model import ensure_scripted_model
from support.service import TOOLS_AND_REASONING, LiveService
from support.spellings import PARIS, SPELLINGS, TYPED, UNICODE, Wanted

RELEASES = ("1.2.4", "2.2.1")
# Without the marks of the service's own calls, which 2.2.1 takes out of every text.
_UNICODE = Wanted(UNICODE.name, {"city": UNICODE.arguments["city"].replace("</tool_call>", "</tool>")})
_CALLS = (PARIS, _UNICODE, TYPED)
OF_THE_SERVICE = "the service's own"
"""The cell of a spelling that the service reads itself: it makes structured calls of it, or an error."""


def live(releases: Sequence[str] = RELEASES) -> tuple[list[str], list[list[str]]]:
    """Return the heading, and a row for each spelling, with a cell for each release.

    A cell is right if a program gets the three calls in every way; otherwise it names the ways in which it does not.
    """
    cases = {name: Case(spelling.write(_CALLS), _CALLS) for name, spelling in SPELLINGS.items()}
    # Not lower-case letters: the spellings have tokens such as <|python_tag|>, and each begins like a marker.
    letters = dict(zip(cases, string.ascii_uppercase + string.digits, strict=False))
    scripts = {letters[name]: case.text for name, case in cases.items()}
    rows = {name: [f"`{name}`", SPELLINGS[name].family] for name in cases}
    for release in releases:
        reads_calls = KNOWN[release].boundary_ids
        model = ensure_scripted_model(cache_root(), scripts=scripts, boundary_ids=reads_calls)
        with LiveService(release, model=model) as service:
            with shim.OpenAI(base_url=service.base_url, max_retries=0) as client:
                for name, case in cases.items():
                    if reads_calls and TOOLS_AND_REASONING["tool_call_start"] in case.text:
                        rows[name].append(OF_THE_SERVICE)
                        continue
                    prompt = f"<|{letters[name]}|>"
                    outcomes = {
                        way: outcome_of(ask, client, service.model_id, prompt)
                        for way, ask in {**STREAMED, **PLAIN}.items()
                    }
                    wrong = [way for way, outcome in outcomes.items() if outcome != wanted(case)]
                    rows[name].append(", ".join(wrong) or RIGHT)
    return ["spelling", "models", *releases], list(rows.values())
