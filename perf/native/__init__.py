"""The two C programs that measurements need, compiled on the spot: the floor (echo.c) and the load (load.c)."""
