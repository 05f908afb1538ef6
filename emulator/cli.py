"""The command line. What a command needs is imported when it runs, so that `emulator --help` is fast."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import __version__
from .errors import BadGolden, BadOperand, BadUnit, EmulatorError, EngineUnavailable
from .rounding import MODES, OVERFLOWS, POLICIES

if TYPE_CHECKING:
    from .formats import Format
    from .fragments import Fragment
    from .golden import GoldenSet, Replay
    from .nn import Run
    from .operations import OperationSet
    from .unit import Unit

    Results = list[tuple[GoldenSet, list[Replay]]]

__all__ = ["main"]


class _Refusal(click.ClickException):
    """An EmulatorError on the command line: its message, and exit status 2."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        click.echo(f"emulator: {self.message}", err=True)


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EmulatorError as error:
            raise _Refusal(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def main() -> None:
    """A bit-exact emulator of tensor-core arithmetic."""


_path = click.Path(path_type=Path)
_UNITS = "{ARCH INSTRUCTION | FILE.toml}..."
_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")


def _units(words: tuple[str, ...], count: int | None = None) -> list[Unit]:
    """The units that words name: two words each for a row of the table, one for a TOML file. Raises BadUnit."""
    from .define import load_unit
    from .unit import instruction

    left, units = list(words), list[Any]()
    while left:
        word = left.pop(0)
        if word.endswith(".toml"):
            units.append(load_unit(word))
        elif left:
            units.append(instruction(word, left.pop(0)))
        else:
            raise BadUnit(f"{word!r} is no unit; a unit is ARCH INSTRUCTION, or a file that ends in .toml")
    if count is not None and len(units) != count:
        raise BadUnit(f"{' '.join(words)} names {len(units)} units; this takes {count}, each ARCH INSTRUCTION or a "
                      "file that ends in .toml")
    return units


# --- verify and golden ------------------------------------------------------------------------------------------------

_NO_GOLDEN = "golden/ is not here: it lies in a checkout, or EMULATOR_GOLDEN names it"
_NO_RECORDED = ("the recorded GPU rows are not here: put them at ../shared/recorded-gpu beside the checkout, or name "
                "their folder in RECORDED_GPU")


@main.command()
@click.argument("places", nargs=-1, metavar="[FOLDER]...", type=_path)
@click.option("--engine", "engines", multiple=True, type=click.Choice(["exact", "numba", "c"]),
              help="Repeatable. Default: every engine that is there.")
@click.option("--arch", help="Only this architecture.")
@click.option("--sample", default=100, show_default=True, metavar="N", type=click.IntRange(0),
              help="Rows of each set that engine exact replays; 0 for all.")
@click.option("--live", is_flag=True, help="Instead: run this CPU's own instructions beside the emulated ones.")
@click.option("--outputs", default=10_000_000, show_default=True, metavar="N", type=click.IntRange(1),
              help="With --live: elements of D, or conversions, of each instruction.")
@_as_json
def verify(places: tuple[Path, ...], engines: tuple[str, ...], arch: str | None, sample: int, live: bool, outputs: int,
           as_json: bool) -> None:
    """Replay golden vectors through the emulated instructions.

    Without FOLDER: golden/ and the recorded GPU rows (RECORDED_GPU, or ../shared/recorded-gpu). Exit status 1 if any
    bit differs or any file is bad.
    """
    if live:
        _verify_live(outputs, as_json)
        return
    from tqdm import tqdm

    from . import golden

    names, lacks = _engines(engines)
    if not places:
        lacks += [_NO_GOLDEN] * (golden.golden_root() is None) + [_NO_RECORDED] * (golden.recorded_root() is None)
    sets, bad = _sets(places, arch)
    others = _operations(places, arch)
    if not sets and not bad and not others:
        raise BadGolden("; ".join([f"nothing to verify{f' for {arch}' if arch else ''}", *lacks]))
    width = max((len(golden_set.instruction) for golden_set in sets), default=0)
    results: Results = []
    with tqdm(total=len(sets) * len(names), unit="replay", leave=False, disable=None) as bar:   # None: terminals only
        for golden_set in sets:
            try:
                replays = []
                for name in names:
                    replays.append(golden_set.replay(name, sample if name == "exact" else None))
                    bar.update()
                results.append((golden_set, replays))
                if not as_json:
                    bar.write(_line(golden_set, replays, width))
            except (BadGolden, EngineUnavailable) as error:
                bad.append(str(error))
    told, differ = _replayed(others, bad)
    if as_json:
        report = _report(results, bad, lacks)
        click.echo(json.dumps({**report, "equal": report["equal"] and not differ, "operations": told}, indent=1))
    else:
        click.echo("\n".join([*told, *_summary(results, names, sample, bad, lacks)]))
    if bad or differ or not all(replay.equal for _, replays in results for replay in replays):
        raise SystemExit(1)


def _operations(places: tuple[Path, ...], arch: str | None) -> list[OperationSet]:
    """The conversions and functions of the folders; what cannot be read `_sets` has said."""
    from . import golden, operations

    found: list[OperationSet] = []
    for folder in (folder for place in places or (None,) for folder in golden.folders(place)):
        try:
            found += [each for each in operations.read(folder) if arch in (None, each.arch)]
        except BadGolden:
            continue
    return found


def _replayed(others: list[OperationSet], bad: list[str]) -> tuple[list[str], int]:
    """A line for each conversion and function, and how many differ; what is damaged goes to `bad`."""
    lines, differ = [], 0
    for each in others:
        try:
            found = each.replay()
        except BadGolden as error:
            bad.append(str(error))
            continue
        differ += found is not None and not found.equal
        verdict = "stored" if found is None else "equal " if found.equal else "DIFFER"
        story = "  not modelled" if found is None else "" if found.equal else f"\n  {found}"
        lines.append(f"{verdict} {each.arch:6} {each.operation} {each.rows:,} rows  {each.source}{story}")
    return lines, differ


def _verify_live(outputs: int, as_json: bool) -> None:
    """Every instruction that this CPU has, executed and emulated."""
    from dataclasses import asdict

    from . import live

    if why := live.lacking():
        raise EngineUnavailable(why)
    checks = []
    for check in live.run(outputs):
        checks.append(check)
        if not as_json:
            verdict = f"DIFFER: {check.mismatches:,}" if check.mismatches else "equal"
            click.echo(f"{check.family:12} {check.name:14} {check.outputs:>11,} outputs {verdict}{check.story and '; '}"
                       f"{check.story}")
    total = f"live: {len(checks)} instructions, {sum(check.outputs for check in checks):,} outputs"
    wrong = sum(bool(check.mismatches) for check in checks)
    if as_json:
        click.echo(json.dumps({"equal": not wrong, "checks": [asdict(check) for check in checks]}, indent=1))
    else:
        click.echo(f"\n{total}, {f'{wrong} DIFFER' if wrong else 'every bit equal'}")
    if wrong:
        raise SystemExit(1)


def _engines(wanted: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The engines to run, and a sentence for each that is lacking. Raises EngineUnavailable if a wanted one is."""
    from importlib.util import find_spec

    from . import engine_c

    lacking = {} if engine_c.available() else {"c": f"engine c is not here: {engine_c.why_not()}"}
    if not find_spec("numba"):
        lacking["numba"] = "engine numba is not here: numba is not installed"
    missing = [lacking[name] for name in wanted if name in lacking]
    if missing:
        raise EngineUnavailable("; ".join(missing))
    if wanted:
        return list(dict.fromkeys(wanted)), []
    return [name for name in ("exact", "numba", "c") if name not in lacking], list(lacking.values())


def _sets(places: tuple[Path, ...], arch: str | None) -> tuple[list[GoldenSet], list[str]]:
    """The sets to replay, and what is wrong with folders that cannot be read."""
    from . import golden
    from .instructions import table

    wanted = next(iter(table(arch).values())).arch if arch else None
    sets: list[GoldenSet] = []
    bad = []
    for folder in (folder for place in places or (None,) for folder in golden.folders(place)):
        try:
            sets += [found for found in golden.read(folder) if wanted in (None, found.arch)]
        except BadGolden as error:
            bad.append(str(error))
    return sets, bad


def _line(golden_set: GoldenSet, replays: list[Replay], width: int) -> str:
    """One set on one line; under it the story of each engine that differs."""
    counts = []
    for replay in replays:
        count = f"{replay.engine} {replay.compared - replay.mismatches:,}"
        count += f" of {replay.compared:,}" * (not replay.equal) + " sampled" * (replay.compared < golden_set.rows)
        counts.append(count)
    verdict = "equal " if all(replay.equal for replay in replays) else "DIFFER"
    rows = f"{golden_set.rows:>9,} {'row ' if golden_set.rows == 1 else 'rows'}"
    line = (f"{verdict} {golden_set.arch:6} {golden_set.instruction:{width}} {rows}  {golden_set.source}"
            f"  ({', '.join(counts)})")
    stories = [f"  {replay.engine}: {replay.story}".replace("\n", "\n  ") for replay in replays if not replay.equal]
    return "\n".join([line, *stories])


def _summary(results: Results, names: list[str], sample: int, bad: list[str], lacks: list[str]) -> list[str]:
    lines = [""]
    for kind in dict.fromkeys(golden_set.kind for golden_set, _ in results):
        these = [(golden_set, replays) for golden_set, replays in results if golden_set.kind == kind]
        wrong = sum(not all(replay.equal for replay in replays) for _, replays in these)
        lines.append(f"{kind}: {len(these)} sets, {sum(golden_set.rows for golden_set, _ in these):,} rows, "
                     f"{f'{wrong} sets DIFFER' if wrong else 'every bit equal'}")
    ran = [f"{name} (a sample of {sample} rows of each set)" if name == "exact" and sample else name for name in names]
    lines.append(f"engines: {', '.join(ran)}")
    return lines + [f"bad: {sentence}" for sentence in bad] + [f"lacking: {sentence}" for sentence in lacks]


def _report(results: Results, bad: list[str], lacks: list[str]) -> dict[str, Any]:
    sets = [{
        "arch": golden_set.arch, "device": golden_set.device, "instruction": golden_set.instruction,
        "file": str(golden_set.path), "kind": golden_set.kind, "source": golden_set.source, "rows": golden_set.rows,
        "equal": all(replay.equal for replay in replays),
        "engines": {str(replay.engine): {"compared": replay.compared, "mismatches": replay.mismatches,
                                         "story": replay.story} for replay in replays},
    } for golden_set, replays in results]
    return {"equal": not bad and all(found["equal"] for found in sets),
            "rows": sum(golden_set.rows for golden_set, _ in results), "sets": sets, "bad": bad, "lacking": lacks}


@main.group("golden")
def golden_group() -> None:
    """Golden folders: check them, or bring recordings in."""


@golden_group.command("check")
@click.argument("folder", type=_path)
def golden_check(folder: Path) -> None:
    """Check that FOLDER is what its manifest says: hashes, arrays, types, shapes, codes."""
    from . import golden, operations

    for found in golden.folders(folder):
        sets = golden.check(found)
        for each in operations.read(found):
            each.load()
        rows = sum(golden_set.rows for golden_set in sets)
        click.echo(f"{found}: {len(sets)} files, {rows:,} rows, as the manifest says")


@golden_group.command("generate")
@click.argument("out", type=_path)
@click.argument("words", nargs=-1, required=True, metavar=_UNITS)
@click.option("--tiles", default=100, show_default=True, metavar="N", type=click.IntRange(1), help="Of each unit.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
def golden_generate(out: Path, words: tuple[str, ...], tiles: int, seed: int) -> None:
    """Write golden folder OUT with directed and random cases and what the emulated units answer.

    A unit is ARCH INSTRUCTION, or a TOML file that describes one of your own.
    """
    from . import golden

    sets = golden.generate(out, _units(words), tiles, seed)
    click.echo(f"{out}: {len(sets)} files, {sum(golden_set.rows for golden_set in sets):,} rows")


@golden_group.command("import")
@click.argument("source", type=_path)
@click.argument("out", type=_path)
def golden_import(source: Path, out: Path) -> None:
    """Bring SOURCE, a checkout of MATLAB-tensor-core or one GPU's folder in it, in as golden folder OUT."""
    from .matlab import import_matlab

    sets = import_matlab(source, out)
    for golden_set in sets:
        click.echo(f"{golden_set.arch:6} {golden_set.instruction:34} {golden_set.rows:>7,} rows  {golden_set.device}")
    rows = sum(golden_set.rows for golden_set in sets)
    click.echo(f"{out}: {len(sets)} files, {rows:,} rows; replay them with emulator verify {out}")


# --- the tables -------------------------------------------------------------------------------------------------------

@main.command()
@click.argument("arch", required=False)
@_as_json
def instructions(arch: str | None, as_json: bool) -> None:
    """The instruction rows of ARCH, or of every architecture, each with its evidence.

    terms: products per fused sum; F: fraction bits kept in alignment; floor: least exponent of the alignment.
    """
    from .instructions import ARCHS, table

    rows = [row for name in ([arch] if arch else ARCHS) for row in table(name).values()]
    if as_json:
        click.echo(json.dumps([{
            "arch": row.arch, "name": row.name, "m": row.m, "n": row.n or "any legal n", "k": row.k,
            "a": str(row.a), "b": str(row.b), "c": str(row.c), "d": str(row.d),
            "scale": row.scale and str(row.scale), "block": row.block, "method": row.method,
            "adder": row.adder and row.adder.name, "terms": row.terms, "frac": row.adder and row.adder.frac,
            "floor": row.floor if row.adder else None, "rounding": row.rounding, "evidence": row.evidence,
            "note": row.note,
        } for row in rows], indent=1))
        return
    width = max(len(row.name) for row in rows)
    for name in dict.fromkeys(row.arch for row in rows):
        these = [row for row in rows if row.arch == name]
        click.echo(f"{name} {ARCHS[name][0]}: {len(these)} instructions\n"
                   f"  {'name':{width}} terms   F  floor  round  {'method':15}  evidence")
        for row in these:
            frac, floor = (row.adder.frac, row.floor) if row.adder and row.adder.frac else ("-", "-")
            click.echo(f"  {row.name:{width}} {row.terms:5} {frac:>3} {floor:>6}  {row.rounding:5}  {row.method:15}"
                       f"  {row.evidence}")


@main.command()
@click.argument("name", required=False, metavar="[FORMAT]")
@click.option("--values", "every", is_flag=True, help="Every code of FORMAT (at most 16 bits) and its value.")
def formats(name: str | None, every: bool) -> None:
    """Every number format: fields, range, what convert does on overflow, aliases; or all about one FORMAT."""
    if name:
        return _one_format(name, every)
    if every:
        raise BadOperand("--values is for one FORMAT: emulator formats e4m3 --values")
    from . import show
    from .convert import policy_for
    from .formats import ALIASES, FORMATS, SPECIALS, Float, Integer

    columns = "{:18} {:>4} {:>4} {:>3} {:>4} {:>4} {:8} {:>23} {:>23}  {:9} {}".format
    click.echo(columns("name", "bits", "sign", "exp", "frac", "bias", "specials", "largest", "smallest normal",
                       "overflow", "aliases"))
    for fmt in FORMATS.values():
        aliases = " ".join(alias for alias, name in ALIASES.items() if name == fmt.name)
        overflow = policy_for(fmt).overflow
        if isinstance(fmt, Float):
            row: tuple[Any, ...] = (
                int(fmt.signed), fmt.exp_bits, fmt.frac_bits, fmt.bias, fmt.specials, show.value(fmt, fmt.max_code),
                show.value(fmt, 0 if fmt.specials == "exponent" else 1 << (fmt.low_pad + fmt.frac_bits)))
        elif isinstance(fmt, Integer):
            row = int(fmt.signed), "", "", "", "", fmt.max, ""
        else:
            row = "", "", "", "", "table", show.value(fmt, len(fmt.values) - 1), ""
        click.echo(columns(fmt.name, fmt.bits, *row, overflow, aliases).rstrip())
    for name, rule in SPECIALS.items():
        click.echo(f"{name}: {rule}")
    click.echo("overflow is what emulator convert does by default:")
    for name in ("ieee", "saturate"):
        click.echo(f"{name}: {OVERFLOWS[name]}")


def _one_format(name: str, every: bool) -> None:
    from . import show
    from .formats import Float, number_format
    from .limits import finfo, values

    fmt = number_format(name)
    if every or not isinstance(fmt, Float):
        click.echo("\n".join(show.describe(fmt, code) for code in values(fmt)[0].tolist()))
    else:
        click.echo(finfo(fmt))


# --- one number, one dot product --------------------------------------------------------------------------------------

@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("fmt", metavar="FORMAT")
@click.argument("text", metavar="CODE_OR_VALUE")
def inspect(fmt: str, text: str) -> None:
    """What a code means: fields, value, class and neighbours. `emulator inspect e4m3 0x7e`, `... e4m3 448`."""
    from . import show
    from .formats import number_format

    found = number_format(fmt)
    click.echo(show.inspect(found, show.parse(text, found, "the number")))


def _choice(name: str, choices: Iterable[str], text: str) -> Callable:
    return click.option(f"--{name}", type=click.Choice(list(choices)), help=text)


_from = click.option("--from", "source", metavar="FORMAT", help=(
    "What X is. Typed: float64, any decimal, unless told; else values that it holds, or codes (0x7e)."))


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("numbers", nargs=-1, required=True, metavar="{X... | FILE.npy}")
@click.argument("to", metavar="TO")
@_from
@_choice("rounding", MODES, "Default: rne, or the profile's.")
@_choice("overflow", OVERFLOWS, "Default: the format's (emulator formats), or the profile's.")
@_choice("nan", POLICIES["nan"], "For a format without NaN.")
@click.option("--profile", help="ocp, ml_dtypes, torch, onnx or cuda: what they do.")
@click.option("--seed", type=click.IntRange(0), help="For the stochastic modes sr, srb, src.")
@click.option("--ftz", is_flag=True, help="A subnormal result becomes zero.")
@click.option("--daz", is_flag=True, help="A subnormal input becomes zero.")
@click.option("--out", type=_path, metavar="FILE.npy", help="Of a file: where the result goes, typed or as codes.")
def convert(numbers: tuple[str, ...], to: str, source: str | None, out: Path | None, **choices: Any) -> None:
    """Numbers in another format, rounded once. `emulator convert 1.1 -448 1e9 e4m3`, `... x.npy e4m3 --out y.npy`.

    numpy has no files of narrow types: their arrays are written, and read with --from, as unsigned codes.
    """
    from . import show
    from .arrays import codes
    from .convert import convert as converted
    from .formats import number_format

    target = number_format(to)
    came, fmt, typed = _given(numbers, source, out, ".npy")
    found, report = converted(came, target, source=fmt, return_report=True, **choices)
    if out:
        plain = found.dtype.isbuiltin == 1                  # a type of numpy's own
        _saved(numbers[0], came, out, {"": found if plain else codes(found, target, "the result")}, str(target))
    else:
        for code, result in zip(typed, codes(found, target, "the result").tolist()):
            click.echo(f"{show.describe(fmt, code)} -> {show.describe(target, result)}")
    _told(report)


def _given(words: tuple[str, ...], source: str | None, out: Path | None, suffix: str) -> tuple[Any, Any, list[int]]:
    """The numbers that were typed, or those of the file that was named: their array, its format (None: as its type
    says), and their codes if they were typed. Raises BadOperand, also for an --out that does not fit."""
    import numpy as np

    from .arrays import from_codes
    from .formats import number_format

    name = words[0] if len(words) == 1 and words[0].lower().endswith(".npy") else None
    if (name is None) != (out is None):
        raise BadOperand(f"{name} is a file; say where the result goes: --out FILE{suffix}" if name else
                         "--out is for the numbers of a file, FILE.npy; typed ones are printed")
    if name is None or out is None:
        fmt = number_format(source or "float64")
        typed = [_number(text, fmt) for text in words]
        return from_codes(np.array(typed, fmt.code_dtype), fmt), fmt, typed
    if out.suffix != suffix or not out.parent.is_dir():
        raise BadOperand(f"--out is {out}; it takes a file that ends in {suffix}, in a folder that is there")
    try:
        found = np.load(name, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadOperand(f"{name} is no array that numpy can read: {error}") from None
    if found.dtype.kind == "V" and source is None:
        raise BadOperand(f"{name} holds {found.dtype.str}, which says no format (numpy writes narrow types so); "
                         "name it: --from FORMAT")
    if source is None:
        return found, None, []
    fmt = number_format(source)
    if found.dtype.kind == "V" and found.dtype.itemsize == fmt.code_dtype.itemsize:
        found = found.view(fmt.code_dtype)
    return found, fmt, []


def _saved(name: str, came: Any, out: Path, arrays: dict[str, Any], what: str) -> None:
    import numpy as np

    if "" in arrays:
        np.save(out, arrays[""])
    else:
        np.savez(out, **arrays)
    held = ", ".join(f"{key} {array.dtype.name} {array.shape}".strip() for key, array in arrays.items())
    click.echo(f"{name}: {came.dtype.name} {came.shape} -> {out}: {what}, {held}")


def _told(report: Any) -> None:
    told = [f"{count} {name}" for name, count in vars(report).items() if count and name != "elements"]
    if told:
        click.echo(", ".join(told))


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("numbers", nargs=-1, required=True, metavar="{X... | FILE.npy}")
@click.argument("scheme", metavar="SCHEME")
@_from
@click.option("--block", type=click.IntRange(1), help="Block formats: elements that share a scale.")
@click.option("--group", type=click.IntRange(1), help="Integers and tables: elements that share a scale.")
@click.option("--channel", type=int, metavar="AXIS", help="Integers and tables: a scale for each index of this axis.")
@click.option("--axis", type=int, help="Along which a block or group lies. Default: the last.")
@click.option("--rule", help="Of the scale: floor, ceil, even, rceil, or a rounding mode. Default: the format's.")
@click.option("--mode", help="exact, te or torchao (NVFP4).")
@click.option("--two-level/--one-level", default=None, help="With a tensor scale or without. Default: the format's.")
@click.option("--out", type=_path, metavar="FILE.npz", help="Of a file: where codes and scales go.")
def quantize(numbers: tuple[str, ...], scheme: str, source: str | None, out: Path | None, **options: Any) -> None:
    """Numbers in a scaled format: scales and codes. `emulator quantize 7 0.25 -1 mxfp4 --rule rceil`,
    `emulator quantize w.npy int8 --channel 0 --out w.npz`.

    SCHEME: mxfp8_e4m3 ... nvfp4, int8, uint4, nf4, ternary ... The file has the arrays codes, scales (codes too, or
    float32), and where there are any zero_points and tensor_scale.
    """
    from . import show
    from .arrays import any_codes
    from .blocks import BLOCKS
    from .quantize import SCHEMES
    from .quantize import quantize as quantized

    blocks = scheme in BLOCKS
    given = {name: choice for name, choice in options.items() if choice is not None}
    foreign = set(given) & ({"group", "channel"} if blocks else {"block", "mode", "two_level"})
    if scheme in SCHEMES and foreign:
        raise BadOperand(f"{scheme} takes no {', '.join(sorted(foreign))}; it takes "
                         + ("block, axis, rule, mode and two-level" if blocks else "group, channel, axis and rule"))
    came, fmt, typed = _given(numbers, source, out, ".npz")
    q, report = quantized(came, scheme, source=fmt, return_report=True, **given)
    if out:
        more = {"zero_points": getattr(q, "zero_points", None), "tensor_scale": getattr(q, "tensor_scale", None)}
        scales = any_codes(q.scales, q.format.scale, "scales") if blocks else q.scales
        _saved(numbers[0], came, out, {"codes": q.codes, "scales": scales,
                                       **{name: array for name, array in more.items() if array is not None}}, scheme)
        _told(report)
        return
    size = (q.format.block if blocks else q.block)[0]
    values = q.dequantize("float64").tolist()
    for i, (code, element) in enumerate(zip(typed, q.codes.tolist())):
        if i % size == 0:
            at = i // size
            told = (show.describe(q.format.scale, any_codes(q.scales, q.format.scale, "scales").tolist()[at]) if blocks
                    else f"{q.scales[at]!s}")
            if blocks and q.tensor_scale is not None:
                told += f", tensor scale {q.tensor_scale!s}"
            if not blocks and q.zero_points is not None:
                told += f", zero point {q.zero_points[at]}"
            click.echo(f"scale {told}")
        click.echo(f"  {show.describe(fmt, code)} -> {show.describe(q.format.element, element)}, that is {values[i]!r}")
    _told(report)


def _number(text: str, fmt: Format) -> int:
    """The code of what was typed; a decimal is a float64 as Python reads it."""
    import numpy as np

    from . import show

    if fmt.name == "float64":
        try:
            return int(np.float64(float(text)).view(np.uint64))
        except ValueError:
            pass
    return show.parse(text, fmt, "X")


@main.command()
@click.argument("profile_a", metavar="PROFILE")
@click.argument("profile_b", metavar="PROFILE")
@click.argument("to", metavar="FORMAT")
@click.option("--from", "source", default="float32", show_default=True, metavar="FORMAT", help="Of the inputs.")
@click.option("--limit", default=40, show_default=True, metavar="N", type=click.IntRange(0), help="Lines; 0 for all.")
def diff(profile_a: str, profile_b: str, to: str, source: str, limit: int) -> None:
    """The inputs on which two profiles (ocp, ml_dtypes, torch, onnx, cuda) convert to FORMAT differently.

    All codes of a source of 16 bits or fewer; of wider ones every number and midpoint of FORMAT, their neighbours, and
    the special numbers.
    """
    from .convert import differences

    found = differences(profile_a, profile_b, to, source)
    click.echo("\n".join(found.lines(limit or None)))
    if limit and len(found) > limit:
        click.echo(f"  and {len(found) - limit} more (--limit 0)")


@main.command()
@click.argument("words", nargs=-1, required=True, metavar="{ARCH INSTRUCTION | FILE.toml}")
@click.option("--a", required=True, metavar="LIST", help="Up to k values or codes with commas: 1.5,-2^-13,0x3c00")
@click.option("--b", required=True, metavar="LIST", help="As many.")
@click.option("--c", default="0", show_default=True, help="One value or code.")
@click.option("--scale-a", metavar="LIST", help="Block scaled instructions: k / block values or codes.")
@click.option("--scale-b", metavar="LIST", help="As many.")
def explain(words: tuple[str, ...], a: str, b: str, c: str, scale_a: str | None, scale_b: str | None) -> None:
    """One dot product, step by step: operands, aligned addends with the cut bits, sum, rounding.

    A value must be one that the format holds exactly. FILE.toml describes a unit of your own.
    """
    from . import show
    from .explain import explain as explained

    (ins,) = _units(words, 1)

    def codes(text: str | None, fmt: Format | None, operand: str) -> list[int] | None:
        if text is None:
            return None
        if fmt is None:
            raise BadOperand(f"{operand} is given; {ins} has no block scales")
        return [show.parse(word, fmt, f"{operand}[{i}]") for i, word in enumerate(text.split(","))]

    click.echo(str(explained(ins, codes(a, ins.a, "a"), codes(b, ins.b, "b"), show.parse(c, ins.c, "c"),
                             codes(scale_a, ins.scale, "scale_a"), codes(scale_b, ins.scale, "scale_b"))))


@main.command()
@click.argument("arch")
@click.argument("name", metavar="INSTRUCTION")
@click.option("--operand", default="a", show_default=True, type=click.Choice("a b c d scale_a scale_b".split()))
@click.option("--layout", default="", type=click.Choice(["", "row", "col"]), metavar="row|col",
              help="Of a and b of Volta's m8n8k4.")
@click.option("--thread-id", default=0, metavar="N", help="Selector of the lanes that hold block scales.")
@click.option("--byte-id", default=0, metavar="N", help="Selector of their bytes.")
def fragments(arch: str, name: str, operand: str, layout: str, thread_id: int, byte_id: int) -> None:
    """Which lane and register holds each element: of an operand of a matrix instruction, or of a copy
    (ldmatrix.m8n8.x4.trans.b16, stmatrix..., tcgen05.ld.16x64b.x8).
    """
    click.echo(_fragment(arch, name, operand, layout, thread_id, byte_id).table())


def _fragment(arch: str, name: str, operand: str, layout: str = "", thread_id: int = 0, byte_id: int = 0) -> Fragment:
    from .fragments import copy_fragment, fragment
    from .instructions import find, table

    if name.split(".")[0] in ("ldmatrix", "stmatrix") or name.startswith(("tcgen05.ld", "tcgen05.st")):
        return copy_fragment(name, next(iter(table(arch).values())).arch)
    return fragment(find(arch, name), operand, layout, thread_id, byte_id)


@main.command("diff-units")
@click.argument("words", nargs=-1, required=True, metavar=_UNITS)
@click.option("--tries", default=4096, show_default=True, metavar="N", type=click.IntRange(0), help="Random cases.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
def diff_units(words: tuple[str, ...], tries: int, seed: int) -> None:
    """The smallest input found on which two units differ. Exit status 1 if there is one.

    A unit is ARCH INSTRUCTION, or a TOML file that describes one of your own.
    """
    from .differ import unit_diff

    x, y = _units(words, 2)
    found = unit_diff(x, y, tries, seed)
    click.echo(str(found))
    raise SystemExit(0 if found.equal else 1)


@main.command("probe")
@click.argument("words", nargs=-1, required=True, metavar="{ARCH INSTRUCTION | FILE.toml | FOLDER}")
@click.option("--arch", help="Of a folder only these rows.")
@click.option("--only", default="", metavar="REGEX", help="Of a folder only instructions whose name matches.")
def probe_unit(words: tuple[str, ...], arch: str | None, only: str) -> None:
    """Find the row of a machine by its answers: a unit, as if it were unknown, or the captured vectors of a FOLDER.

    A live machine is a function of yours: emulator.probe(dot, a=..., b=..., d=..., k=...).
    """
    import re

    import numpy as np

    from . import golden
    from .probe import match, probe

    if len(words) == 1 and not words[0].endswith(".toml"):
        for found in (found for folder in golden.folders(Path(words[0])) for found in golden.read(folder)):
            if arch in (None, found.arch) and re.search(only, found.instruction) and not found.unit.block:
                vectors, formats = found.load(), {x: getattr(found.unit, x) for x in "abcd"}
                a, b, c = (x for x in vectors.dots(np.arange(vectors.d.size))[:3] if x is not None)
                click.echo(f"{found}\n{match(a, b, c, vectors.d.ravel(), **formats)}\n")
        return
    (unit,) = _units(words, 1)
    if unit.block:
        raise BadOperand(f"{unit} is block scaled; probe takes units without scales")
    click.echo(str(probe(unit.dot_codes, a=unit.a, b=unit.b, c=unit.c, d=unit.d, k=unit.k)))


# --- training ---------------------------------------------------------------------------------------------------------

@main.command()
@click.argument("task", type=click.Choice(["digits", "digits-sigmoid", "text", "text-small"]))
@click.option("--recipe", default="bf16", show_default=True, metavar="NAME", help="How every product is done.")
@click.option("--arch", help="Default: the recipe's, else sm_100.")
@click.option("--steps", type=click.IntRange(1), help="Default: the task's.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--checkpoint", metavar="FILE", type=_path, help="Where the run is kept, an .npz.")
@click.option("--every", default=100, show_default=True, metavar="N", type=click.IntRange(1), help="Saves, in steps.")
@click.option("--resume", is_flag=True, help="Go on with the run in --checkpoint, as it was begun.")
@click.option("--compare", "others", metavar="A,B,...", help="Train with several recipes instead, side by side.")
@click.option("--out", metavar="FOLDER", type=_path, help="Where --compare writes its table and figure.")
def train(task: str, recipe: str, arch: str | None, steps: int | None, seed: int, checkpoint: Path | None, every: int,
          resume: bool, others: str | None, out: Path | None) -> None:
    """Train a small network, every product of it on emulated instructions.

    digits: 8x8 handwritten digits, ReLU and cross entropy (digits-sigmoid: the classic network, squared error). text: a
    transformer that learns to write like Python's help, character by character (text-small: one to compare recipes on).
    """
    from .nn import Run

    if others:
        _compare(task, others.split(","), out, arch=arch, steps=steps, seed=seed)
        return
    if resume and not (checkpoint and checkpoint.exists()):
        raise BadOperand(f"--resume goes on with the run in --checkpoint FILE; {checkpoint or 'none was given'}"
                         + " is not there" * bool(checkpoint))
    if checkpoint and checkpoint.exists() and not resume:
        raise BadOperand(f"{checkpoint} is there already: --resume goes on with it, or name another file")
    run = Run.load(checkpoint) if resume and checkpoint else Run(task, recipe, arch=arch, steps=steps, seed=seed)
    if run.name != task:
        raise BadOperand(f"{checkpoint} is a run of {run.name}, not of {task}")
    _advance(run, checkpoint, every)
    if run.step < run.steps:
        raise click.ClickException(f"stopped at step {run.step} of {run.steps}" + (
            f"; go on with: emulator train {task} --checkpoint {checkpoint} --resume" if checkpoint else ""))
    click.echo(f"{run.name} {run.recipe.name} on {run.m.arch}: {_result(run)}; weights {run.digest()[:16]}")


def _compare(task: str, recipes: list[str], out: Path | None, **choices: Any) -> None:
    """Runs side by side, under one progress bar: a table on the screen, and with `out` there and beside it a figure."""
    from importlib.util import find_spec

    from tqdm import tqdm

    from .nn import Run, compare, figure, table

    if out and not find_spec("matplotlib"):
        raise BadOperand("the figure needs matplotlib, which is not installed: pip install matplotlib (or this "
                         "package's extra, train)")
    for recipe in recipes:
        Run(task, recipe, **choices)                            # refuses what it would refuse later
    found = []
    with tqdm(unit="step", leave=False, disable=None) as bar:
        def advance(run: Run) -> float:
            bar.set_description(run.recipe.name)
            bar.update()
            return run.advance()

        for each in compare(task, recipes, advance=advance, **choices):
            found.append(each)
    text = table(found, "fp32" if "fp32" in recipes else recipes[0])
    click.echo(text)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "compare.txt").write_text(text + "\n", encoding="utf-8")
        figure(found, out / "compare.png", f"{task}, {len(found[0].losses)} steps")


def _advance(run: Run, checkpoint: Path | None, every: int) -> None:
    """The rest of a run, under a progress bar, with a save now and then and at its end.

    Ctrl-C ends it after the step in hand, so that what is saved is whole; a second one at once, without a save.
    """
    import signal

    from tqdm import tqdm

    stopped = False

    def stop(*_: Any) -> None:
        nonlocal stopped
        stopped = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        with tqdm(total=run.steps, initial=run.step, unit="step", leave=False, disable=None) as bar:
            bar.set_description(run.recipe.name)
            while run.step < run.steps and not stopped:
                loss = run.advance()
                rate = run.task.batch * max(1, run.model.context) * run.step / run.seconds
                bar.set_postfix_str(f"loss {loss:.4f}, {rate:,.0f} samples/s", refresh=False)
                bar.update()
                if checkpoint and run.step % every == 0:
                    run.save(checkpoint)
    finally:
        signal.signal(signal.SIGINT, before)
    if checkpoint:
        run.save(checkpoint)


def _result(run: Run) -> str:
    found = run.evaluate()
    accuracy = f", {found['accuracy']:.1%} right" if "accuracy" in found else ""
    return (f"{run.step} steps, loss {found['loss']:.4f} on unseen data{accuracy}, "
            f"{run.seconds / max(run.step, 1) * 1000:.0f} ms a step")


@main.command()
@click.argument("checkpoint", type=_path)
@click.option("--length", default=400, show_default=True, type=click.IntRange(0), help="Characters.")
@click.option("--prompt", default="The ", show_default=True)
@click.option("--temperature", default=0.8, show_default=True, type=float, help="0: always the likeliest character.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
def generate(checkpoint: Path, length: int, prompt: str, temperature: float, seed: int) -> None:
    """Let the transformer in CHECKPOINT (emulator train text) write on from a prompt."""
    from .nn import Run
    from .nn import generate as written

    letters = written(Run.load(checkpoint), length, prompt=prompt, temperature=temperature, seed=seed)
    click.echo(prompt, nl=False)
    for letter in letters:
        click.echo(letter, nl=False)
    click.echo()


@main.command()
@click.argument("checkpoint", type=_path)
@click.option("--knobs", metavar="STEPS", type=click.IntRange(1), help="Also train anew, one knob changed at a time.")
def diagnose(checkpoint: Path, knobs: int | None) -> None:
    """Where quantisation hurts in the network of CHECKPOINT: by layer, along the forward pass, and by knob."""
    from .nn import Run, compare, depth, sensitivity, table
    from .nn import knobs as changed

    run = Run.load(checkpoint)
    click.echo(f"{run.name} {run.recipe.name} on {run.m.arch}, step {run.step}\n"
               f"{'layer':14} {'error of operands':>18} {'loss, this layer alone':>24}")
    for name, error, cost in sensitivity(run):
        click.echo(f"{name:14} {error:>18.2e} {cost:>+24.2e}")
    click.echo("error of each product's result along the forward pass, attention included")
    for name, error in depth(run):
        click.echo(f"  {name:26} {error:.2e}")
    if knobs:
        found = list(compare(run.name, list(changed(run.recipe).values()), steps=knobs, seed=run.seed, arch=run.m.arch))
        click.echo(table(found, found[0].recipe))


# --- kernels ---------------------------------------------------------------------------------------------------------

@main.command()
@click.argument("arch")
@click.argument("name", metavar="INSTRUCTION")
@click.option("--shape", nargs=3, default=(1024, 1024, 1024), show_default=True, metavar="M N K", type=int)
@click.option("--tile", nargs=3, default=(0, 0, 0), metavar="M N K", type=int, help="Of a thread block.")
@click.option("--warps", nargs=2, default=(0, 0), metavar="M N", type=int, help="Across a thread block's M and N.")
@click.option("--swizzle", default="128B", show_default=True, metavar="MODE", help="none, 32B, 64B, 128B ...")
@click.option("--read-swizzle", metavar="MODE", help="What the reading side believes it is.")
@click.option("--stages", default=2, show_default=True, metavar="N", help="Buffers of the pipeline.")
@click.option("--pad", default=0, show_default=True, metavar="BYTES", help="After each row, without a swizzle.")
@click.option("--major-b", default="K", show_default=True, type=click.Choice(["K", "MN"]), help="How B lies in memory.")
@click.option("--promote", metavar="K", type=int, help="Add the sums up in float32 after every so many k.")
@click.option("--seed", default=0, show_default=True, metavar="N")
def kernel(arch: str, name: str, shape: tuple[int, int, int], promote: int | None, seed: int, **choices: Any) -> None:
    """Run a tiled GEMM on random operands through shared memory and registers, and say what it moved.

    Exit status 1 if its bits are not those of matmul, as with another swizzle on the reading side.
    """
    import numpy as np

    from . import arrays
    from .compare import compare
    from .convert import convert
    from .formats import Integer
    from .kernels import Kernel
    from .matmul import IN_ORDER, Promote, matmul
    from .unit import instruction

    ins = instruction(arch, name)
    run, (m, n, k), rng = Kernel(ins, **choices), shape, np.random.default_rng(seed)
    schedule = Promote(promote) if promote else IN_ORDER

    def numbers(fmt: Any, *shape: int) -> Any:
        if isinstance(fmt, Integer):
            return arrays.from_codes(rng.integers(0, 1 << fmt.bits, shape, np.uint64).astype(fmt.code_dtype), fmt)
        x = rng.standard_normal(shape)
        return convert(x if fmt.signed else abs(x), fmt, profile="cuda")

    given: dict[str, Any] = {"schedule": schedule}
    if ins.block:
        blocks = -(-k // ins.block)
        given |= {"scale_a": numbers(ins.scale, m, blocks), "scale_b": numbers(ins.scale, blocks, n)}
    a, b = numbers(ins.a, m, k), numbers(ins.b, k, n)
    found = run(a, b, **given)
    click.echo(str(found.trace))
    judged = compare(found.d, matmul(a, b, on=ins, **given))
    click.echo("the bits are those of matmul" if judged.equal else str(judged))
    if not judged.equal:
        raise SystemExit(1)


# --- pictures ---------------------------------------------------------------------------------------------------------

_out = click.option("--out", required=True, type=_path, metavar="FILE", help="A .svg or .png file to write.")


@main.group()
def plot() -> None:
    """Draw a picture and save it as SVG or PNG."""


@plot.command("fragment")
@click.argument("arch")
@click.argument("name", metavar="INSTRUCTION")
@click.option("--operand", default="a", show_default=True, type=click.Choice("a b c d scale_a scale_b".split()))
@_out
def plot_fragment(arch: str, name: str, operand: str, out: Path) -> None:
    """Which lane and register holds each element (as the command fragments tells it)."""
    from .plots import draw_fragment, save

    save(draw_fragment(_fragment(arch, name, operand)), out)


@plot.command("spacing")
@click.argument("formats", nargs=-1, required=True, metavar="FORMAT...")
@_out
def plot_spacing(formats: tuple[str, ...], out: Path) -> None:
    """How far apart the numbers of FORMATs lie."""
    from .plots import draw_spacing, save

    save(draw_spacing(formats), out)


@plot.command("errors")
@click.argument("formats", nargs=-1, required=True, metavar="FORMAT...")
@_out
def plot_errors(formats: tuple[str, ...], out: Path) -> None:
    """A histogram of the errors of converting normally distributed numbers to FORMATs."""
    from .plots import draw_errors, save

    save(draw_errors(formats), out)


@plot.command("swizzle")
@click.argument("mode")
@_out
def plot_swizzle(mode: str, out: Path) -> None:
    """Where swizzle MODE (none, 32B, 64B, 128B ...) puts the bytes of 128-byte rows."""
    from .plots import draw_swizzle, save

    save(draw_swizzle(mode), out)


@plot.command("banks")
@click.option("--stride", default=128, show_default=True, metavar="BYTES", help="From one lane's address to the next.")
@click.option("--width", default="16", show_default=True, type=click.Choice(["1", "2", "4", "8", "16"]),
              help="Bytes that each lane moves; ldmatrix: 16.")
@click.option("--swizzle", "mode", default="none", show_default=True, metavar="MODE")
@_out
def plot_banks(stride: int, width: str, mode: str, out: Path) -> None:
    """Which banks 32 lanes use at a stride, and the conflicts: ldmatrix.x4 of rows of 128 bytes, unless told."""
    import numpy as np

    from .plots import draw_banks, save
    from .shared import swizzle

    at = swizzle(stride * np.arange(32), mode)
    save(draw_banks(at, int(width), f"32 lanes, {stride} bytes apart, swizzle {mode}"), out)


# --- speed -----------------------------------------------------------------------------------------------------------

@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS]")
def bench(arguments: tuple[str, ...]) -> None:
    """Measure the speed of products beside numpy's (bench --help: options; EMULATOR_THREADS: threads).

    `emulator bench convert` measures conversion and quantisation, beside numpy's copy, ml_dtypes and torch.
    """
    import os
    import subprocess
    import sys

    root = Path(__file__).resolve().parent.parent
    of_convert = arguments[:1] == ("convert",)
    program = root / "tools" / ("bench_convert.py" if of_convert else "bench.py")
    if not program.exists():
        raise EngineUnavailable(f"the benchmark is a tool of the checkout, tools/{program.name}, which is not here")
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    # a process of its own: numpy reads the number of its threads when it is imported
    done = subprocess.run([sys.executable, program, *arguments[of_convert:]], env={**os.environ, "PYTHONPATH": path})
    raise SystemExit(done.returncode)
