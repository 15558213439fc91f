"""Every run is logged: what was asked, what came out, how long it took, from which code."""
