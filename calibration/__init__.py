"""What chooses quantization ranges from real pictures: start at `collect.collect` and `collected.ranges_from`."""
