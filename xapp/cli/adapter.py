"""`semcom train adapter` and `semcom eval adapter`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xapp.cli.root import JsonFlag, eval_app, fail, train_app

if TYPE_CHECKING:
    from collections.abc import Callable

    from codec_runtime.adapters.training import EpochReport

Data = Annotated[Path, typer.Option("--data", help="Folder with captions.txt (image,caption) and images/.")]
ImageEncoder = Annotated[
    str, typer.Option(help="Frozen encoder of pictures: efficientnet-early, efficientnet-late or jscc.")
]
TextEncoder = Annotated[str, typer.Option(help="Frozen encoder of sentences: minilm or small-text.")]
Cache = Annotated[
    Path | None, typer.Option(help="Folder of cached tokens; default: semcom/tokens in the user's cache.")
]


@train_app.command("adapter")
def train_adapter_command(
    data: Data,
    out: Annotated[Path, typer.Option(help="Bundle root to write adapter and knowledge base into.")] = Path(
        "runs/adapter"
    ),
    image_encoder: ImageEncoder = "efficientnet-late",
    text_encoder: TextEncoder = "minilm",
    epochs: Annotated[int, typer.Option(min=1)] = 6,
    batch: Annotated[int, typer.Option(min=2, help="Pairs of a step.")] = 128,
    learning_rate: Annotated[float, typer.Option(min=1e-7, help="Of Adam.")] = 1e-3,
    test: Annotated[int, typer.Option(min=10, help="Pictures held out.")] = 200,
    prototypes: Annotated[int, typer.Option(min=8, help="Of a knowledge base built here.")] = 128,
    knowledge: Annotated[
        Path | None, typer.Option(help="Bundle directory of a knowledge base to align to (skb/NAME/VERSION).")
    ] = None,
    version: Annotated[int, typer.Option(min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Of weights and order.")] = 0,
    split_seed: Annotated[int, typer.Option(help="Of the held-out pictures and the knowledge base.")] = 0,
    cache: Cache = None,
    json_: JsonFlag = False,
) -> None:
    """Train the graph adapter centrally on captioned pictures; encoders stay frozen.

    Writes the bundles adapter/shared/VERSION and, unless --knowledge is given, skb/semantic/VERSION, and the
    curve as adapter_curve.json. Of the pictures held out: recall at 1, 5 and 10 both ways, and their sum.

    Example:

      semcom train adapter --data flickr8k --out runs/adapter
    """
    import json

    from codec_runtime.adapters.central import CentralRequest, train_adapter
    from codec_runtime.adapters.encoders import EncoderUnavailableError
    from codec_runtime.adapters.training import TrainingConfig
    from codec_runtime.bundle.errors import BundleError

    training = TrainingConfig(batch=batch, learning_rate=learning_rate, epochs=epochs, seed=seed)
    request = CentralRequest(
        data, out, image_encoder, text_encoder, test, split_seed, prototypes, knowledge, version, training
    )
    try:
        directory, curve = train_adapter(request, cache, _say_inputs(), _say_epoch)
    except KeyError as error:
        fail(str(error.args[0]))
    except (BundleError, EncoderUnavailableError, OSError, ValueError, FloatingPointError) as error:
        fail(str(error))
    last = curve[-1].retrieval
    result = {"bundle": str(directory), "epochs": len(curve), **last.as_dict()}
    typer.echo(json.dumps(result) if json_ else f"RSUM {last.rsum:.1f}, written to {directory}")


@eval_app.command("adapter")
def eval_adapter_command(
    bundle: Annotated[Path, typer.Option(help="Bundle directory of the adapter (adapter/NAME/VERSION).")],
    knowledge: Annotated[
        Path, typer.Option(help="Bundle directory of its knowledge base (skb/NAME/VERSION).")
    ],
    data: Data,
    image_encoder: ImageEncoder = "efficientnet-late",
    text_encoder: TextEncoder = "minilm",
    cache: Cache = None,
    json_: JsonFlag = False,
) -> None:
    """Retrieval between pictures and sentences through an adapter, on the pictures its training held out.

    Example:

      semcom eval adapter --data flickr8k --bundle runs/adapter/adapter/shared/1
      --knowledge runs/adapter/skb/semantic/1
    """
    import json

    from codec_runtime.adapters.central import evaluate_adapter
    from codec_runtime.adapters.encoders import EncoderUnavailableError
    from codec_runtime.bundle.errors import BundleError

    try:
        measured, pictures = evaluate_adapter(
            bundle, knowledge, data, image_encoder=image_encoder, text_encoder=text_encoder, cache=cache,
            on_inputs=_say_inputs(),
        )
    except KeyError as error:
        fail(str(error.args[0]))
    except (BundleError, EncoderUnavailableError, OSError, ValueError) as error:
        fail(str(error))
    values = measured.as_dict()
    if json_:
        typer.echo(json.dumps({
            "image_encoder": image_encoder, "text_encoder": text_encoder, "pictures": pictures, **values
        }))
        return
    for name, value in values.items():
        typer.echo(f"{name:18} {value:6.1f}")


def _say_inputs() -> Callable[[str, int], None]:
    done: dict[str, int] = {}

    def say(encoder: str, count: int) -> None:
        done[encoder] = done.get(encoder, 0) + count
        typer.echo(f"{encoder}: tokens of {done[encoder]} inputs", err=True)

    return say


def _say_epoch(report: EpochReport) -> None:
    typer.echo(
        f"epoch {report.epoch + 1}: loss {report.loss:.3f}, RSUM {report.retrieval.rsum:.1f}", err=True
    )
