"""A recording of an exchange as a script for a raw server."""

from support.raw_server import Close, Hold, Reset, Send, Sleep, Step


def steps(recording, *, gap: float = 0.005) -> list[Step]:
    """The steps that serve a recording byte for byte, with its cuts and its end.

    Args:
        recording: A `shim.capture.recording.Recording`.
        gap: Seconds before each piece but the first, so that no read of the client gets two of them.
    """
    script: list[Step] = []
    for piece in recording.pieces:
        if script:
            script.append(Sleep(gap))
        script.append(Send(piece.data))
    match recording.ended:
        case "closed":
            script.append(Close())
        case "reset":
            script += [Sleep(gap), Reset()]
        case "deadline":
            script.append(Hold())
    return script
