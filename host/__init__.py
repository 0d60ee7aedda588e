"""What this computer does with a board, real or emulated: running samples, and a page."""
