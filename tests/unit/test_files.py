"""Files and folders that belong to the user alone."""

import os
import stat
import subprocess
import sys

import pytest

from shim.errors import ServiceError
from shim.files import may_others_use, require_private, write_private

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes and owners are those of POSIX")
CONTENT = b"a recording"


@pytest.fixture(autouse=True)
def _permissive_mask():
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("overwrite", [False, True])
def test_only_the_owner_may_read_a_new_file(tmp_path, overwrite):
    """Whatever the process's mask admits."""
    write_private(tmp_path / "file", CONTENT, overwrite=overwrite)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("dangling", [False, True])
def test_link_is_not_followed(tmp_path, dangling):
    """Neither to a file, nor to one that does not exist yet."""
    target = tmp_path / "target"
    if not dangling:
        target.write_bytes(b"another's")
    (tmp_path / "file").symlink_to(target)
    with pytest.raises(FileExistsError):
        write_private(tmp_path / "file", CONTENT)
    write_private(tmp_path / "file", CONTENT, overwrite=True)
    assert not (tmp_path / "file").is_symlink()
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert target.exists() is not dangling
    assert dangling or target.read_bytes() == b"another's"


def test_existing_file_is_kept(tmp_path):
    """Unless it is to be replaced; what others may read of it then is nothing."""
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        write_private(tmp_path / "file", CONTENT)
    assert (tmp_path / "file").read_bytes() == b"mine"
    write_private(tmp_path / "file", CONTENT, overwrite=True)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_failed_replacement_leaves_nothing_behind(tmp_path):
    """A folder cannot be replaced by a file."""
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"):
        write_private(tmp_path / "folder", CONTENT, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_failed_write_leaves_no_file(tmp_path):
    """What cannot be written in whole is not there at all; here it is text instead of bytes."""
    with pytest.raises(TypeError):
        write_private(tmp_path / "file", "text")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("mode", "is_open"), [(0o600, False), (0o640, True), (0o606, True)])
def test_file_that_others_may_use_is_recognised(tmp_path, mode, is_open):
    """A file of keys is the user's alone, or the user is warned."""
    file = tmp_path / "keys.txt"
    file.touch()
    file.chmod(mode)
    assert may_others_use(file) is is_open
    assert not may_others_use(tmp_path / "none")


def test_own_folders_pass(tmp_path):
    """As do those that do not exist yet, and the system's for everybody, where nobody can take another's place."""
    sticky = tmp_path / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    require_private([tmp_path, tmp_path / "none", sticky], "Go away.")


def test_folder_that_everybody_may_write_to_is_refused(tmp_path):
    """Somebody may have put a model there."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(ServiceError, match=r"Other users may write to .*open\. Go away\."):
        require_private([folder], "Go away.")


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give a folder away")
def test_folder_that_another_group_may_write_to_is_refused(tmp_path):
    """The user's own group is often the user's alone, and passes."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o770)
    require_private([folder], "Go away.")
    os.chown(folder, -1, 65534)
    with pytest.raises(ServiceError, match="Other users may write to"):
        require_private([folder], "Go away.")


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("is_link", [False, True])
def test_folder_of_another_user_is_refused(tmp_path, is_link):
    """Or a link that another user has put in its place."""
    folder = tmp_path / "folder"
    if is_link:
        folder.symlink_to(tmp_path)
        os.lchown(folder, 65534, 65534)
    else:
        folder.mkdir()
        os.chown(folder, 65534, 65534)
    with pytest.raises(ServiceError, match="belongs to another user"):
        require_private([folder], "Go away.")


def test_file_that_cannot_be_written_leaves_nothing(tmp_path):
    """Neither a part of it, nor an empty file: here a limit stands for a full disk."""
    code = (
        "import resource, sys; from pathlib import Path; from shim.files import write_private\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "write_private(Path(sys.argv[1]), b'x' * 100)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "file"], capture_output=True, text=True, check=False)
    assert "OSError" in done.stderr
    assert list(tmp_path.iterdir()) == []
