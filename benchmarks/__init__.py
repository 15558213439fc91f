"""Benchmarks of speed, and of the rankers.

Times are compared within one run, in which the alternatives take turns, because the machine may be shared and its speed
may vary. The ratios are therefore more reliable than the seconds.
"""
