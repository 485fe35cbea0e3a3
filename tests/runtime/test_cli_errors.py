"""How a command ends that fails: one line and a code, whatever it was that failed."""

import errno
import os

import pytest
import typer
from typer.testing import CliRunner

from beta_factory.messages import BarFileError, ConfigError, FeedDisconnectedError
from beta_factory.runtime.cli_common import Commands

UNREAD = BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
AWAY = FeedDisconnectedError("tcp://host:1", 1, "refused")


def ended(error: Exception) -> tuple[int, str]:
    """Return how a command ends that raises an error, and what it says."""
    app = typer.Typer(cls=Commands)

    @app.command()
    def fail() -> None:
        raise error

    @app.callback()
    def _root() -> None:
        pass

    result = CliRunner().invoke(app, ["fail"], catch_exceptions=False)
    assert result.stdout == ""
    return result.exit_code, result.stderr


def of_system(code: int, path: str | None = None) -> OSError:
    return OSError(code, os.strerror(code), path)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (of_system(errno.ENOENT, "/a"), 2, "/a: no such file\n"),
        (of_system(errno.EACCES, "/a"), 1, "/a: Permission denied\n"),
        (of_system(errno.EISDIR, "/a"), 1, "/a: Is a directory\n"),
        (of_system(errno.ENOSPC), 1, "[Errno 28] No space left on device\n"),
        (BarFileError("/a", "is empty"), 1, "/a: is empty\n"),
        (ConfigError([("a", "b"), ("c", "d")], source="f"), 1, "f: a: b\nf: c: d\n"),
        (
            caused(ConfigError([("key", "/a: none")]), of_system(errno.ENOENT, "/a")),
            2,
            "key: /a: none\n",
        ),
        (AWAY, 3, f"{AWAY}\n"),
        (ExceptionGroup("", [ExceptionGroup("", [AWAY])]), 3, f"{AWAY}\n"),
        (UNREAD, 141, ""),
        (ExceptionGroup("", [UNREAD]), 141, ""),
        (ExceptionGroup("", [UNREAD, ExceptionGroup("", [UNREAD])]), 141, ""),
    ],
    ids=repr,
)
def test_what_can_go_wrong_is_said_in_a_line(
    error: Exception, code: int, said: str
) -> None:
    assert ended(error) == (code, said)


@pytest.mark.parametrize(
    "error", [ValueError("nobody foresaw it"), ExceptionGroup("two", [AWAY, UNREAD])]
)
def test_what_nobody_foresaw_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        ended(error)
    assert raised.value is error
