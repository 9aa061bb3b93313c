"""[torch] A job run on the virtual GPU, and the timeline it leaves."""
