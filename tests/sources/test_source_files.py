"""file:// and images:// with real files: whole, cut, corrupt, of different sizes."""

import itertools
import os
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.clock import monotonic_ns
from edge.errors import ConfigError, EndOfStreamError, SourceOpenError
from edge.frame import Frame
from edge.sources.base import FrameSource, open_source
from edge.sources.images import _jpeg_is_complete


def read_all(source: FrameSource) -> list[tuple[Frame, int, int]]:
    """All frames with their grey level and the time they were read."""
    frames = []
    try:
        while True:
            frame = source.read(10)
            frames.append((frame, int(frame.image.mean()), monotonic_ns()))
    except EndOfStreamError:
        return frames


def test_fast_delivers_every_frame_of_the_video(video: Path) -> None:
    with open_source(f"file://{video}?pace=fast") as source:
        frames = read_all(source)
        assert [level for _, level, _ in frames] == pytest.approx([4 * i for i in range(60)], abs=3)
        assert [frame.info.seq for frame, _, _ in frames] == list(range(60))
        assert source.live is False
        assert (source.state, source.stats.dropped, source.stats.corrupt) == ("ended", 0, 0)


def test_a_name_that_is_not_utf8_does_not_reach_opencv(video: Path, tmp_path: Path) -> None:
    """It would end the process with a segmentation fault."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/v\xff.avi"))
    path.write_bytes(video.read_bytes())
    with open_source(f"file://{path}") as source, pytest.raises(SourceOpenError, match=r"not UTF-8.*rename it"):
        source.read(10)


def test_realtime_stamps_frames_with_when_they_were_due(video: Path) -> None:
    with open_source(f"file://{video}?start_s=1") as source:
        frames = read_all(source)
        stats = source.stats
    assert stats.captured == 30
    assert len(frames) + stats.dropped == 30
    first, last = frames[0][0].info, frames[-1][0].info
    assert last.t_capture_ns - first.t_capture_ns == pytest.approx((last.seq - first.seq) / 30 * 1e9, rel=0.05)
    assert all(t_read_ns >= frame.info.t_capture_ns for frame, _, t_read_ns in frames)
    assert frames[0][1] == pytest.approx(120, abs=3)
    assert first.timestamp_quality == "generated"


def test_a_loop_begins_again_and_the_stamps_go_on(video: Path) -> None:
    with open_source(f"file://{video}?pace=fast&loop=on") as source:
        levels = [int(source.read(10).image.mean()) for _ in range(130)]
        assert source.stats.reconnects == 0
    assert levels[60] == pytest.approx(0, abs=3)
    assert levels[129] == pytest.approx(4 * 9, abs=3)


def test_a_truncated_video_gives_what_there_is_and_says_so(video: Path) -> None:
    data = video.read_bytes()
    video.write_bytes(data[: len(data) * 6 // 10])
    with open_source(f"file://{video}?pace=fast") as source:
        frames = read_all(source)
        assert 20 < len(frames) < 50
        assert [level for _, level, _ in frames][:20] == pytest.approx([4 * i for i in range(20)], abs=3)
        reasons = [event.reason for event in source.poll_events()]
        assert any(f"ends after {len(frames)} of 60 frames" in reason for reason in reasons)
        assert (source.state, source.stats.corrupt) == ("ended", 1)


def test_a_truncated_mp4_that_lost_its_index_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, (64, 48))
    for i in range(30):
        writer.write(np.full((48, 64, 3), i, np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[:-300])
    with open_source(str(path)) as source, pytest.raises(SourceOpenError, match=r"not a video.*ffprobe"):
        source.read(10)


def test_a_text_file_named_mp4_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("buy milk\n" * 100)
    with open_source(f"file://{path}") as source:
        with pytest.raises(SourceOpenError, match=r"notes\.mp4 is not a video") as caught:
            source.read(10)
        assert "ffprobe" in caught.value.cure
        assert source.state == "lost"


def test_a_missing_file_fails_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(SourceOpenError, match="does not exist"):
        open_source(f"file://{tmp_path}/none.mp4")
    with pytest.raises(SourceOpenError, match=r"is a directory.*images://"):
        open_source(f"file://{tmp_path}")


def test_a_start_behind_the_end_is_an_error(video: Path) -> None:
    with open_source(f"file://{video}?pace=fast&start_s=100") as source:
        with pytest.raises(SourceOpenError, match="start_s") as caught:
            source.read(10)
        assert "no frame" in caught.value.cause


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Pictures a (60x40), b (30x50), d, e; c.jpg is corrupt: it has lost its second half."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    for name, size in (("a.jpg", (60, 40)), ("b.png", (30, 50)), ("d.JPG", (60, 40)), ("e.bmp", (20, 20))):
        cv2.imwrite(str(folder / name), cv2.resize(noise, size))
    cv2.imwrite(str(folder / "c.jpg"), noise)
    data = (folder / "c.jpg").read_bytes()
    (folder / "c.jpg").write_bytes(data[: len(data) // 2])
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_one_corrupt_jpeg_among_good_ones_is_skipped_counted_and_reported(pictures: Path) -> None:
    with open_source(f"images://{pictures}") as source:
        frames = [frame.info for frame, _, _ in read_all(source)]
        assert [info.frame_ref for info in frames] == ["a.jpg", "b.png", "d.JPG", "e.bmp"]
        assert [(i.width_px, i.height_px) for i in frames] == [(60, 40), (30, 50), (60, 40), (20, 20)]
        assert [info.seq for info in frames] == [0, 1, 2, 3]
        assert source.stats.corrupt == 1
        assert any(event.reason == "c.jpg is truncated" for event in source.poll_events())


@pytest.mark.parametrize("content", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe0", b"GIF89a no", b"\x89PNG\r\n\x1a\n", b"BM"])
def test_whatever_is_in_a_file_it_is_skipped(pictures: Path, content: bytes) -> None:
    (pictures / "c.jpg").write_bytes(content)
    with open_source(f"images://{pictures}") as source:
        assert len(read_all(source)) == 4
        assert source.stats.corrupt == 1


def test_pictures_of_a_looped_directory_come_again(pictures: Path) -> None:
    with open_source(f"images://{pictures}?loop=on") as source:
        names = [source.read(10).info.frame_ref for _ in range(9)]
    assert names == ["a.jpg", "b.png", "d.JPG", "e.bmp"] * 2 + ["a.jpg"]


def test_pictures_with_a_rate_are_due_at_that_rate(pictures: Path) -> None:
    with open_source(f"images://{pictures}?fps=20&loop=on") as source:
        assert source.live
        infos = [source.read(10).info for _ in range(6)]
    for one, two in itertools.pairwise(infos):
        assert two.t_capture_ns - one.t_capture_ns >= (two.seq - one.seq) * 49_000_000


def test_a_single_picture_and_plain_paths_are_understood(pictures: Path, video: Path) -> None:
    for text, kind in ((pictures / "a.jpg", "images"), (pictures, "images"), (video, "file")):
        with open_source(str(text)) as source:
            assert source.source_id.startswith(f"{kind}://")
            assert source.read(10).image.ndim == 3


def test_a_directory_without_pictures_or_without_good_ones_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceOpenError, match="no picture in"):
        open_source(f"images://{tmp_path}")
    with pytest.raises(SourceOpenError, match="does not exist"):
        open_source(f"images://{tmp_path}/none")
    (tmp_path / "bad.png").write_bytes(b"nonsense")
    with open_source(f"images://{tmp_path}?loop=on") as source:
        with pytest.raises(SourceOpenError, match=r"no picture in .* can be read"):
            source.read(10)
        assert source.stats.corrupt == 1


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    ok, encoded = cv2.imencode(".jpg", np.zeros((20, 40, 3), np.uint8))
    assert ok
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    exif = b"Exif\x00\x00" + tiff
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    data = encoded.tobytes()
    (tmp_path / "turned.jpg").write_bytes(data[:2] + segment + data[2:])
    with open_source(f"images://{tmp_path}") as source:
        assert source.read(10).image.shape == (40, 20, 3)


def test_a_jpeg_is_complete_whatever_follows_it_and_incomplete_when_cut_anywhere() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for progressive in (0, 1):
        ok, encoded = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])
        assert ok
        data = encoded.tobytes()
        assert _jpeg_is_complete(data)
        assert _jpeg_is_complete(data + b"\xff\xda trailing \xff\xd8")
        assert not any(_jpeg_is_complete(data[:cut]) for cut in range(2, len(data) - 1, 37))


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("file://{video}?lop=on", "did you mean 'loop'"),
        ("file://{video}?pace=slow", "pace"),
        ("file://{video}?start_s=-1", "start_s"),
        ("images://.?fps=fast", "fps"),
        ("images://.?fps=-1", "fps"),
        ("imgs://.", "did you mean 'images'"),
    ],
)
def test_bad_options_are_config_errors(video: Path, uri: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        open_source(uri.format(video=video))


def test_a_path_with_odd_characters(video: Path, tmp_path: Path) -> None:
    odd = tmp_path / "50% of äll? #1.avi"
    odd.write_bytes(video.read_bytes())
    with open_source(str(odd)) as source:
        assert source.read(10).image.shape == (120, 160, 3)


def test_a_still_growing_mkv_is_read_to_where_it_is(video: Path, tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    try:
        command = ["ffmpeg", "-v", "error", "-i", str(video), "-c", "copy", str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        pytest.skip("ffmpeg is not installed")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with open_source(f"file://{path}?pace=fast") as source:
        frames = read_all(source)
        assert 10 < len(frames) < 50
        assert source.stats.corrupt == 1
