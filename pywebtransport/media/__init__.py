"""Frames with deadlines: each on its own stream, the newest first, late ones dropped."""

from ._frames import Frame, FrameOrder, MediaCode
from ._receiver import FrameReceiver, FrameReceiverStats
from ._sender import FrameSender, FrameSenderStats

__all__ = [
    "Frame",
    "FrameOrder",
    "FrameReceiver",
    "FrameReceiverStats",
    "FrameSender",
    "FrameSenderStats",
    "MediaCode",
]
