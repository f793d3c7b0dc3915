"""The command `qsim` (also `python -m qsim`): studies, checks, data, this machine's speed, marks, benchmarks."""

from __future__ import annotations

import json
import sys
from argparse import SUPPRESS, ArgumentParser, RawDescriptionHelpFormatter, _SubParsersAction
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import Any

from qsim._version import __version__
from qsim.commands import command
from qsim.options import nearest

_SHELLS = ["bash", "zsh", "fish", "tcsh"]
_HELP = """commands:
  study       run studies, and look after what they have stored
  verify      check that compressors, objectives and methods keep what they promise
  data        list data sets, show one, download one
  calibrate   measure what work takes on this machine, for virtual time
  warm        compile kernels now, and not when a run first needs them
  mark        mark students' notebooks of the exercise on quantized gradients
  bench       compare qsim's speed with its peers' (in a checkout of the repository)
  completion  print what makes a shell complete these commands

Each has its own help: qsim COMMAND --help.

examples:
  qsim study s_sweep
  qsim study status --json
  qsim verify "mine.py:Ternary()"
  qsim data show adult
  qsim mark homework/
  qsim completion bash > ~/.local/share/bash-completion/completions/qsim

exit codes:
  0  good
  1  something failed: a promise is broken, a cell failed, a file cannot be used
  2  a wrong request
  130  stopped by Ctrl-C
"""


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        _parser().print_help()
        return 0 if given else 2
    if given[0] == "--version":
        print(f"qsim {__version__}")
        return 0
    name, *rest = given
    if name not in _COMMANDS:
        print(f"error: there is no command {name!r}{nearest(name, _COMMANDS)} (qsim --help)", file=sys.stderr)
        return 2
    return _COMMANDS[name](rest)


def _of(module: str) -> Callable[[Sequence[str]], int]:
    """Return the command of a module, which is imported when it is run."""

    def run(arguments: Sequence[str]) -> int:
        code: int = import_module(module).main(arguments)
        return code

    return run


def _bench(arguments: Sequence[str]) -> int:
    sys.path.insert(0, str(Path.cwd()))  # where an installed command does not look
    if find_spec("benchmarks") is None or find_spec("benchmarks.runner") is None:
        if {"-h", "--help"} & set(arguments):
            print("usage: qsim bench ...\n\nCompare qsim's speed with its peers', in the folder of a checkout.")
            return 0
        print(
            "error: the benchmarks are in the repository, not in the package: run this in the folder of a checkout",
            file=sys.stderr,
        )
        return 2
    return _of("benchmarks.__main__")(arguments)


def _completion(arguments: Sequence[str]) -> int:
    parser = ArgumentParser(
        prog="qsim completion", description="Print the script that makes a shell complete qsim's commands and options."
    )
    parser.add_argument("shell", choices=_SHELLS)
    shell = parser.parse_args(arguments).shell
    if shell == "fish":
        print("\n".join(_fish(_tree(), "qsim")))
        return 0
    try:
        import shtab
    except ImportError:
        print("error: this needs the package shtab: pip install shtab", file=sys.stderr)
        return 2
    print(shtab.complete(_tree(), shell))
    return 0


def _fish(parser: ArgumentParser, program: str, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the lines that make fish complete a parser's commands and options, which shtab does not know how to."""
    commands = {
        name: sub
        for action in parser._actions
        if isinstance(action, _SubParsersAction)
        for name, sub in action.choices.items()
    }
    seen = [f"__fish_seen_subcommand_from {name}" for name in path]
    if commands:
        seen.append(f"not __fish_seen_subcommand_from {' '.join(commands)}")
    when = f"complete -c {program}" + (f" -n {quote('; and '.join(seen))}" if seen else "")
    for action in parser._actions:
        about = (
            f" -d {quote(' '.join(action.help.partition('. ')[0].split()))}"
            if action.help and action.help != SUPPRESS
            else ""
        )
        if isinstance(action, _SubParsersAction):
            helps = {choice.dest: (choice.help or "").partition(". ")[0] for choice in action._choices_actions}
            yield from (f"{when} -f -a {name} -d {quote(helps.get(name, ''))}" for name in commands)
            continue
        flags = "".join(
            f" -{'l' if flag.startswith('--') else 's'} {flag.lstrip('-')}" for flag in action.option_strings
        )
        if action.choices:
            yield f"{when}{flags} -{'x' if flags else 'f'} -a {quote(' '.join(map(str, action.choices)))}{about}"
        elif flags:
            yield f"{when}{flags}{' -r' if action.nargs != 0 else ''}{about}"
    for name, sub in commands.items():
        yield from _fish(sub, program, (*path, name))


def _data(arguments: Sequence[str]) -> int:
    from qsim.datasets import DataError, downloadable, fetch, load, names

    parser = ArgumentParser(prog="qsim data", description="Look at data sets.")
    options = _add_data_commands(parser).parse_args(arguments)
    try:
        if options.command == "list":
            _print({"built in": names(), "to download": downloadable()}, options.json)
            return 0
        found = (fetch if options.command == "fetch" else load)(options.name, options.split)
    except (DataError, ImportError) as error:  # of pooch, which downloads
        print(f"error: {error}", file=sys.stderr)
        return 2
    about = {"name": found.name, "rows": found.rows, "features": found.features, "nonzeros": found.nonzeros}
    about |= {"density": found.density, "kind": found.kind, "digest": found.digest, "source": repr(found.source)}
    _print(about, options.json)
    return 0


def _add_data_commands(parser: ArgumentParser) -> ArgumentParser:
    group = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("list", "list the data sets that are built in, and those that can be downloaded"),
        ("show", "load a data set, by name or path, and say what it is"),
        ("fetch", "download a data set, once, and say what it is"),
    ):
        one = group.add_parser(name, help=text, description=text.capitalize() + ".")
        if name != "list":
            one.add_argument("name", help="a name, or the path of a file")
            one.add_argument("--split", default="train", choices=["train", "test"])
        one.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _print(about: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(about))
        return
    width = max(map(len, about))
    for name, value in about.items():
        text = ", ".join(value) if isinstance(value, list) else f"{value:,}" if isinstance(value, int) else value
        print(f"{name:{width}}  {text}")


def _parser() -> ArgumentParser:
    return ArgumentParser(
        prog="qsim",
        usage="qsim COMMAND ...",
        description="Simulate training with quantized gradients: real workers, real encoded bytes, real figures.",
        epilog=_HELP,
        formatter_class=RawDescriptionHelpFormatter,
    )


def _tree() -> ArgumentParser:
    """Return all commands with their options, for completion."""
    from qsim import calibrate, verify, warm
    from qsim.lessons import marking
    from qsim.study import cli as study

    parser = _parser()
    group = parser.add_subparsers()
    study.add_commands(group.add_parser("study", help="run studies"), listed=True)
    group.add_parser("verify", help="check parts", parents=[verify.parser()], add_help=False)
    _add_data_commands(group.add_parser("data", help="look at data"))
    group.add_parser("calibrate", help="measure this machine", parents=[calibrate.parser()], add_help=False)
    group.add_parser("warm", help="compile ahead", parents=[warm.parser()], add_help=False)
    group.add_parser("mark", help="mark students' files", parents=[marking.parser()], add_help=False)
    group.add_parser("bench", help="compare speeds")
    group.add_parser("completion", help="print a script").add_argument("shell", choices=_SHELLS)
    return parser


_COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "study": _of("qsim.study.cli"),
    "verify": _of("qsim.verify"),
    "data": _data,
    "calibrate": _of("qsim.calibrate"),
    "warm": _of("qsim.warm"),
    "mark": _of("qsim.lessons.marking"),
    "bench": _bench,
    "completion": _completion,
}

if __name__ == "__main__":
    sys.exit(main())
