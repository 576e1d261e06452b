"""What people install: the wheel and the sdist, and the packages that come with them."""
