"""Cameras: what each is, its lasting name, formats, rights, USB speed and bandwidth; nvargus for those on CSI."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from edge.doctor.board import container_of, is_pi, jetson_of
from edge.doctor.devices import group_cure, holders, may_use
from edge.doctor.finding import Finding, note, ok, problem, warning
from edge.doctor.machine import Machine
from edge.doctor.usb import UsbDevice, streams_that_fit, usb_device_of
from edge.doctor.v4l2 import CameraFormat, camera_formats

__all__ = ["Camera", "argus_findings", "camera_findings", "cameras_of"]

_COMPRESSED = ("MJPG", "JPEG", "H264", "HEVC")
# nodes of codecs, image processors and receivers, which give no picture that OpenCV can read
_NO_CAMERA = re.compile(r"bcm2835-(codec|isp)|rpi(vid|-hevc)|hevc|pispbe|rp1-cfe|unicam|nvhost|tegra-video-(dec|enc)")
_RECEIVER = re.compile(r"rp1-cfe|unicam")
_BAYER = re.compile(r"RGGB|GRBG|GBRG|BA81|(RG|BG|GB|BA)\d\d")
_VGA_30_BYTES = 640 * 480 * 2 * 30  # YUYV


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera node. formats: None where it could not be asked."""

    device: str
    name: str
    lasting: tuple[str, ...]
    usb: UsbDevice | None
    formats: tuple[CameraFormat, ...] | None

    @property
    def raw_bayer(self) -> bool:
        """Whether it gives a sensor's raw pixels only."""
        return bool(self.formats) and all(_BAYER.fullmatch(f.fourcc) for f in self.formats or ())


def cameras_of(machine: Machine) -> list[Camera]:
    """Return the nodes that give pictures, by number; second nodes of one camera (metadata) are left out."""
    found = []
    nodes = machine.glob("sys/class/video4linux/video*")
    for node in sorted(nodes, key=lambda path: int(re.sub(r"\D", "", path.name)[:9] or 0)):
        folder = f"sys/class/video4linux/{node.name}"
        name = machine.text(f"{folder}/name")
        if machine.number(f"{folder}/index") or _NO_CAMERA.search(name):
            continue
        device = f"/dev/{node.name}"
        formats = camera_formats(machine, device)
        if formats == []:
            continue  # it gives nothing: an output, or metadata only
        lasting = machine.names_of("dev/v4l/by-id", node.name) + machine.names_of("dev/v4l/by-path", node.name)
        usb = usb_device_of(machine, folder)
        found.append(Camera(device, name, tuple(lasting), usb, None if formats is None else tuple(formats)))
    return found


def camera_findings(machine: Machine) -> Iterator[Finding]:
    """Yield every camera and what keeps it from working well."""
    cameras = cameras_of(machine)
    if not cameras:
        why = "v4l2:// sources need one; files, streams and CSI cameras do not"
        cure = "ls -l /dev/v4l/by-id/  # after plugging one in"
        if container_of(machine):
            cure = "docker run --device /dev/video0 ..."
        yield note("camera.device", "cameras", "no V4L2 camera", why, cure)
    for camera in cameras:
        yield from _camera(machine, camera)
    yield from _identity(cameras)
    yield from _bandwidth(cameras)
    receivers = [path.name for path in machine.glob("sys/class/video4linux/video*")]
    if is_pi(machine) and any(_RECEIVER.search(machine.text(f"sys/class/video4linux/{n}/name")) for n in receivers):
        why = "it speaks through libcamera only, not through V4L2"
        cure = "rpicam-hello --list-cameras  # then: sudo apt install gstreamer1.0-libcamera, source gst://libcamerasrc"
        yield note("camera.csi", "CSI", "the CSI connector of a Raspberry Pi is in use", why, cure)


def _camera(machine: Machine, camera: Camera) -> Iterator[Finding]:
    usb = f", USB {camera.usb.speed_mbps:g} Mbit/s" if camera.usb else ""
    lasting = f"; lasting name {camera.lasting[0]}" if camera.lasting else ""
    said = f"{camera.name or 'unnamed'}{usb}; {_formats_text(camera.formats)}{lasting}"
    yield ok("camera.device", camera.device, said)
    if not may_use(machine, camera.device):
        cure = group_cure(machine, camera.device, "video")
        yield problem("camera.permission", camera.device, "no permission", "the camera cannot be opened", cure)
    if users := holders(machine, camera.device):
        pid, name = users[0]
        why = "a camera gives pictures to one program at a time"
        yield note(
            "camera.busy", camera.device, f"used by {name} (process {pid})", why, f"kill {pid}  # if that is not meant"
        )
    if camera.raw_bayer and jetson_of(machine):
        why = "it gives raw sensor pixels here; the picture comes through Jetson's own image processor"
        cure = f'source = "csi://{re.sub(r"[^0-9]", "", camera.device)}"  # in the configuration'
        yield note("camera.csi", camera.device, "a CSI sensor", why, cure)
    if not camera.usb:
        return
    if camera.usb.speed_mbps < 480:
        why = "12 Mbit/s carry no useful video"
        cure = "plug it directly into the board, with another cable"
        yield warning("camera.speed", camera.device, f"a link of {camera.usb.speed_mbps:g} Mbit/s", why, cure)
    elif camera.usb.speed_mbps == 480 and camera.usb.version.startswith("2.1") and not _compressed(camera):
        why = "a camera for USB 3 at a USB 2 port or cable has a tenth of its bandwidth"
        cure = "lsusb -t  # after plugging it into a blue (USB 3) port with a USB 3 cable"
        yield note("camera.speed", camera.device, "probably a USB 3 camera on a USB 2 link", why, cure)


def _identity(cameras: list[Camera]) -> Iterator[Finding]:
    usb = [camera.usb for camera in cameras if camera.usb]
    if len(cameras) < 2 or not usb:
        return
    same = [key for key, n in Counter((u.vendor, u.product, u.serial) for u in usb).items() if n > 1]
    folder, which = "/dev/v4l/by-id", "a name of /dev/v4l/by-id"
    if same:
        folder, which = "/dev/v4l/by-path", "a name of /dev/v4l/by-path: two of them say the same of themselves"
    why = "/dev/videoN is given in the order of plugging and starting: after a restart it may be another camera"
    cure = f"ls -l {folder}/  # and write v4l2://{folder}/... as the source"
    yield note("camera.identity", "cameras", f"{len(cameras)} cameras; {which} stays", why, cure)


def _bandwidth(cameras: list[Camera]) -> Iterator[Finding]:
    buses: dict[int, list[Camera]] = {}
    for camera in cameras:
        if camera.usb:
            buses.setdefault(camera.usb.bus, []).append(camera)
    for bus, members in sorted(buses.items()):
        speed = max(camera.usb.speed_mbps for camera in members if camera.usb)
        fits = streams_that_fit(speed, _VGA_30_BYTES)
        streams = "stream" if fits == 1 else "streams"
        said = f"{speed:g} Mbit/s carry {fits} uncompressed {streams} of 640x480 at 30/s; {len(members)} cameras on it"
        subject = f"USB bus {bus}"
        if len(members) <= fits or len(members) == 1:
            yield ok("camera.bandwidth", subject, said.replace("1 cameras", "1 camera"))
            continue
        why = 'the camera that starts last gets no picture ("No space left on device")'
        cure = "lsusb -t  # plug one into a port of another bus; or add ?fourcc=MJPG to the sources"
        yield warning("camera.bandwidth", subject, said, why, cure)


def argus_findings(machine: Machine) -> Iterator[Finding]:
    """Yield the state of the daemon through which a Jetson's CSI cameras are read."""
    if jetson_of(machine) is None:
        return
    why = "csi:// sources get their pictures from it"
    if container_of(machine):
        if not machine.exists("tmp/argus_socket"):
            cure = "docker run -v /tmp/argus_socket:/tmp/argus_socket ...  # with nvargus-daemon running on the host"
            yield note("camera.nvargus", "nvargus-daemon", "its socket is not in this container", why, cure)
        return
    said = machine.run(["systemctl", "is-active", "nvargus-daemon"])
    state = said.text.splitlines()[0] if said and said.text else "unknown"
    if state == "active":
        yield ok("camera.nvargus", "nvargus-daemon", "active")
    else:
        cure = "sudo systemctl restart nvargus-daemon"
        yield warning("camera.nvargus", "nvargus-daemon", state, why, cure)


def _compressed(camera: Camera) -> bool:
    return any(f.fourcc in _COMPRESSED for f in camera.formats or ())


def _formats_text(formats: tuple[CameraFormat, ...] | None) -> str:
    """The largest size of each format, in words."""
    if formats is None:
        return "formats not told"
    best: dict[str, CameraFormat] = {}
    for each in formats:
        known = best.get(each.fourcc)
        if known is None or each.width * each.height > known.width * known.height:
            best[each.fourcc] = each
    words = []
    for fourcc, each in best.items():
        rate = f" at {each.fps:g}/s" if each.fps else ""
        words.append(f"{fourcc} to {each.width}x{each.height}{rate}" if each.width else fourcc)
    return ", ".join(words)
