"""The benchmarks: a file each, with `cases(quick)`, which yields what is measured."""
