#!/bin/sh
# pytest-benchmark 5.2.3 with pytest 9.0.2, CPython 3.11:
#
#     pytest --benchmark-save=one      exit status 0
#     pytest --benchmark-compare       INTERNALERROR, exit status 3, and nothing is run
#
# where the project has `filterwarnings = error` and anything in machine_info is another than when the
# measurement was saved. One would expect the benchmarks to run, and a failed test at most: the
# filter is for what tests warn of. But the plugin compares machines as it is configured, outside
# of any test, so its warning ends the run before the first one. machine_info holds the clock rate of
# that moment (cpu.hz_actual), so this may depend on nothing else; the script changes an entry of its own.
# `default:Benchmark machine_info is different` behind `error` mends it.
# The script fails where this is not so any more.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet pytest==9.0.2 pytest-benchmark==5.2.3
cd "$folder"
cat > conftest.py <<'END'
import os


def pytest_benchmark_update_machine_info(config, machine_info):
    machine_info["room"] = os.environ["ROOM"]
END
cat > test_sum.py <<'END'
def test_sum(benchmark):
    benchmark.pedantic(sum, [range(10)], rounds=2)
END

# compared FILTERS: the exit status of a comparison, and how often it says INTERNALERROR.
compared() {
  printf '[pytest]\nfilterwarnings =\n    error\n%s' "$1" > pytest.ini
  rm -rf .benchmarks
  ROOM=warm venv/bin/pytest -q --benchmark-save=one > saved.txt 2>&1
  status=0
  ROOM=cold venv/bin/pytest -q --benchmark-compare > compared.txt 2>&1 || status=$?
  if grep -q INTERNALERROR compared.txt; then echo "$status INTERNALERROR"; else echo "$status"; fi
}

plain=$(compared "")
excepted=$(compared "    default:Benchmark machine_info is different
")
echo "exit status: $plain; with the warning excepted: $excepted"
[ "$plain" = "3 INTERNALERROR" ] && [ "$excepted" = "0" ] || { echo "changed"; exit 1; }
