"""How fast qsim is, as ratios to what it is compared with: `python -m benchmarks`.

Each file of `suite/` is a benchmark. Absolute times depend on the machine and on its mood, so only ratios are claimed,
of medians of contestants that took turns in one run.
"""
