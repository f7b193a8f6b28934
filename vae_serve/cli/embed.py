"""`vae-serve embed`: pictures to latent vectors."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vae_serve import start
from vae_serve.cli import console
from vae_serve.cli.engine import Address, Engine
from vae_serve.cli.model_in_use import model_in_use
from vae_serve.cli.share import parse_share
from vae_serve.cli.timeout import PictureTimeout
from vae_serve.cli.workers import parse_workers

if TYPE_CHECKING:
    from vae_serve.api.summaries import EmbedSummary

SOME_FAILED = 3

Fit = Literal["stretch", "pad", "crop"]
Invert = Literal["no", "yes", "auto"]
ResultFormat = Literal["parquet", "npy", "csv", "projector"]


def embed(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder, a picture, a quoted pattern, a list of paths (.txt or -), .zip, .tar(.gz), .npy, .npz, "
            "IDX, .parquet, mnist, or one of them at s3://, gs:// or az://.",
            show_default=False,
        ),
    ],
    *,
    out: Annotated[
        str,
        typer.Option(
            metavar="PATH", help="The folder to write to, or s3://BUCKET/NAME, gs://... or az://...", show_default=False
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="The bundle's folder or s3:// URL. [default: the newest in exports/, else the packaged one]",
        ),
    ] = None,
    format_: Annotated[ResultFormat, typer.Option("--format", help="Format of the result.")] = "parquet",
    outputs: Annotated[
        str, typer.Option(help="Columns: some of z_mean, z_log_var and z, a sample.")
    ] = "z_mean,z_log_var",
    seed: Annotated[int, typer.Option(help="Of z: the sample of row i depends only on SEED and i.")] = 0,
    fit: Annotated[
        Fit | None, typer.Option(help="How a picture of another size is fitted. [default: as in training]")
    ] = None,
    invert: Annotated[
        Invert | None,
        typer.Option(help="Invert the picture; auto: if its border is light. [default: as in training]"),
    ] = None,
    shard: Annotated[str, typer.Option(help="I/N: make the I-th of N shares of the job.")] = "1/1",
    workers: Annotated[str, typer.Option(help="Decoding processes; auto: as many as this process has cores.")] = "auto",
    batch: Annotated[
        int, typer.Option(min=1, help="Pictures per call of the encoder; does not change the output.")
    ] = 128,
    rows_per_shard: Annotated[int, typer.Option(min=1, help="Rows per file; a kill loses unfinished files.")] = 32_768,
    max_errors: Annotated[
        int | None, typer.Option(min=0, help="Stop when more pictures than this have failed.")
    ] = None,
    picture_timeout: PictureTimeout = 30.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result in --out.")] = False,
    engine: Engine = None,
    address: Address = None,
    quiet: console.Quiet = False,
    as_json: console.AsJson = False,
) -> None:
    """Turn pictures into latent vectors.

    One row for each picture, in sorted order, with its label, size and any error.

    An interrupted job resumes with the same command. Exit code 3: finished, but some pictures failed.
    """
    start.prepare()
    from vae_serve.api.embed import embed as call

    used = model_in_use(model, quiet)
    with console.progress("embed", None, "pictures", quiet) as report:
        summary = call(
            source,
            used,
            out=out,
            format=format_,
            outputs=outputs,
            seed=seed,
            fit=fit,
            invert=invert,
            shard=parse_share(shard),
            workers=parse_workers(workers),
            batch=batch,
            rows_per_shard=rows_per_shard,
            max_errors=max_errors,
            picture_timeout=picture_timeout,
            overwrite=overwrite,
            engine=engine,
            address=address,
            progress=report,
            note=None if quiet else console.say,
        )
    if not quiet:
        console.say(_line(summary))
    if as_json:
        console.emit(summary.to_json())
    if summary.failed:
        raise typer.Exit(SOME_FAILED)


def _line(summary: "EmbedSummary") -> str:
    now = summary.this_run
    parts = [f"{summary.out}: {summary.images:,} rows"]
    if summary.failed:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in summary.errors.items())
        parts.append(f"{summary.failed:,} failed ({kinds})")
    parts += [f"{count:,} {note}" for note, count in summary.notes.items()]
    if summary.skipped:
        parts.append(f"{sum(summary.skipped.values()):,} other files skipped")
    if now.images:
        rate = f"{now.images_per_second:,.0f}/s, limited by {summary.limiting_stage}"
        parts.append(f"{now.images:,} of them now, in {now.seconds:.2f} s ({rate})")
    else:
        parts.append("all there already, nothing to do")
    return "; ".join(parts)
