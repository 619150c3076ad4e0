"""The benchmark suite; `docs/benchmarks.md` says how to run and read it."""
