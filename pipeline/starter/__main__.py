"""``python -m pipeline.starter`` is the command ``pcace init``."""

from pipeline.starter import main

main()
