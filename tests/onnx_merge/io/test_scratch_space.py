"""Temporary files are put where they take no memory."""

from collections import namedtuple

import pytest

from onnx_merge.io import scratch_space as module
from onnx_merge.io.scratch_space import OTHER, scratch_space
from onnx_merge.tuning.inputs import SAMPLE_MEMORY

Usage = namedtuple("Usage", "total used free")
ROOT = "/dev/sda / ext4 rw 0 0\n"


@pytest.fixture
def system(monkeypatch, tmp_path):
    """Sets the mounts, the folder for temporary files and the free bytes of each folder; no folder, no bytes."""

    def set_(mounts, folder, free):
        def usage(path):
            if path not in free:
                raise FileNotFoundError(path)
            return Usage(2 * free[path], free[path], free[path])

        listed = tmp_path / "mounts"
        listed.write_text(mounts)
        monkeypatch.setattr(module, "MOUNTS", listed)
        monkeypatch.setattr(module.tempfile, "gettempdir", lambda: folder)
        monkeypatch.setattr(module.shutil, "disk_usage", usage)

    return set_


def test_a_share_of_what_is_free_is_used(system):
    system(ROOT, "/scratch", {"/scratch": 800, OTHER: 900})
    found = scratch_space()
    assert found.folder == "/scratch" and found.room == 800 / SAMPLE_MEMORY.disk_share


@pytest.mark.parametrize("kind", ["tmpfs", "ramfs"])
def test_a_folder_in_memory_is_passed_over(system, kind):
    system(ROOT + f"tmpfs /fast {kind} rw 0 0\n", "/fast/inner", {"/fast/inner": 800, OTHER: 900})
    assert scratch_space().folder == OTHER


def test_the_innermost_mount_counts(system):
    system("tmpfs / tmpfs rw 0 0\n/dev/sdb /my\\040disk ext4 rw 0 0\n", "/my disk/t", {"/my disk/t": 8})
    assert scratch_space().folder == "/my disk/t"


def test_without_room_there_is_none(system):
    system(ROOT, "/scratch", {"/scratch": 0})
    assert scratch_space() is None


def test_where_the_system_does_not_tell_the_folder_is_taken(system, monkeypatch, tmp_path):
    system(ROOT, "/scratch", {"/scratch": 8})
    monkeypatch.setattr(module, "MOUNTS", tmp_path / "none")
    assert scratch_space().folder == "/scratch"
