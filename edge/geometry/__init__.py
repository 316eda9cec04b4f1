"""From boxes to bearings, ranges and positions: the camera's geometry, its calibration, and regions of the picture."""
