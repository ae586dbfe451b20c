"""Our model folder, and the way to and from other people's."""
