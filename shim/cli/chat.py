"""Ask a model and see the answer word by word: one question, or a conversation."""

import sys
from contextlib import closing
from typing import Annotated

import typer

from shim.cli.options import BaseUrl, Model, ModelPath
from shim.cli.output import encodable, note, waiting


def chat(
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", help="The question. Without it, and without a pipe, a conversation starts."),
    ] = None,
    *,
    model: Model = None,
    base_url: BaseUrl = None,
    model_path: ModelPath = None,
    system: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The system message: how the model should answer.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, metavar="N", help="The token limit of an answer.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, metavar="X", help="0 for the most likely answer, higher for more variety.")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Use the raw SSE path instead of the official openai client.")
    ] = False,
    show_repairs: Annotated[
        bool, typer.Option("--show-repairs", help="List after each answer what was repaired.")
    ] = False,
) -> None:
    """Ask a model and see the answer word by word.

    Uses the service at --base-url, or a running one. If none runs, starts Foundry Local until the command ends, with
    the named model or the default one.

    Text from a pipe is put before the question: git diff | foundry-shim chat "Review this"

    In a conversation Ctrl-C stops an answer, /help lists the commands, and /exit or Ctrl-D ends it.
    """
    question = _question(prompt)
    from shim.cli.answers import ChatModel, show_answer
    from shim.cli.conversation import Conversation, message
    from shim.cli.services import open_service
    from shim.service.find import without_credentials

    with open_service(model, base_url, model_path) as foundry:
        note(f"Using Foundry Local endpoint at {without_credentials(foundry.base_url)}/chat/completions")
        with waiting("Looking for the model …"):
            model_id = foundry.model_id
        note(f"Model: {model_id}", style="dim")
        parameters = {"max_tokens": max_tokens, "temperature": temperature}
        with closing(ChatModel(foundry, parameters, raw=raw)) as chat_model:
            conversation = Conversation(chat_model, encodable(system or ""), show_repairs=show_repairs)
            if question is None:
                conversation.run()
            else:
                messages = [*conversation.messages, message("user", question)]
                show_answer(chat_model, messages, show_repairs=show_repairs)


def _question(prompt: str | None) -> str | None:
    """The text from a pipe, and the question; None to start a conversation.

    Raises:
        typer.BadParameter: Both are empty.
    """
    piped = None if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    parts = [part for part in (piped, prompt) if part is not None]
    if not parts:
        return None
    question = "\n\n".join(part.strip("\n") if len(parts) > 1 else part for part in parts if part.strip())
    if not question:
        raise typer.BadParameter("must not be empty", param_hint="PROMPT")
    return encodable(question)
