"""The benchmark suite; `docs/benchmarks.md` says how to use and read it."""
