"""What holds for the whole process: forks, OpenCV's settings, compiled code."""
