"""What a training leaves in its run folder, shown as a page; needs no Lightning and no torch."""
