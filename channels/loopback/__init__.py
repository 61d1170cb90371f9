"""A channel inside the process: nothing leaves it. For tests, and the shortest example of a connector."""
