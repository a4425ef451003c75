"""Seconds of foundation models and restorers at their training shapes: ours, and the PyTorch implementation.

    python experiments/bench_networks.py -o experiments/results/networks_cpu.json [--only NAME ...] [--rounds 5]

needs the extra `parity` (torch, transformers, spandrel, spandrel_extra_arches); SFHformer also the environment variable
LH_JAX_SFHFORMER, a checkout of https://github.com/deng-ai-lab/SFHformer. In one process, on the same cores, in turns:
one call of ours, one of theirs, a pause before each, round after round; medians. Random weights, float32. 'forward +
backward' is the gradient of the mean square of the output with respect to all parameters.

The shapes are those of one device of the paper's four: four images of 256 for stage 1 (16 x 16 tokens), two latents of
64 x 64 for stage 2 (crops of 512); the networks on pixels take one crop of 128; of the latent restorers, NAFNet is the
one that the other implementation can be built for.

--profile adds to the file where our forward + backward spends the time of all threads; --readme writes its tables to
README.md.
"""

from __future__ import annotations

import argparse
import collections
import functools
import gzip
import json
import os
import pathlib
import re
import statistics
import sys
import tempfile
import time
from typing import Any, Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lh_jax import results  # noqa: E402
from lh_jax.models import foundation  # noqa: E402
from lh_jax.models import restorers  # noqa: E402
from lh_jax.models.restorers import pixel  # noqa: E402
import records  # noqa: E402
from tests.parity import make_foundation_golden  # noqa: E402
from tests.parity import make_restorers_golden  # noqa: E402

OUTPUT = ROOT / 'experiments' / 'results' / 'networks_cpu.json'
README = ROOT / 'experiments' / 'README.md'
MARKS = ('<!-- bench_networks: written by bench_networks.py --readme -->', '<!-- end of bench_networks -->')
WHAT = ('forward', 'forward + backward')
IMAGES, CROP = 4, 256
LATENTS, LATENT = 2, (64, 64, 32)
PIXEL_CROP = 128
# Threads of the other library go on spinning for a while after its call, on cores that the next call needs.
PAUSE_SECONDS = 0.3


def foundation_pair(name: str) -> tuple[Any, Any, np.ndarray]:
  """Returns (our function of (params, x), our parameters), their module, and the input (B, H, W, 3)."""
  model = foundation.build(name)
  rows, columns = model.token_grid((CROP, CROP))
  side = rows * model.module.stride
  params = model.init(jax.random.key(0))
  x = np.random.default_rng(0).standard_normal((IMAGES, side, columns * model.module.stride, 3)).astype(np.float32)
  return (lambda params, x: model.module.apply({'params': params}, x), params), _transformer(name, side), x


def _transformer(name: str, side: int) -> Any:
  """The same encoder of transformers, for square images of a side, from an image batch (B, 3, H, W) to tokens."""
  transformers = make_foundation_golden.load_transformers()
  if name == 'dinov2_vits14':
    config = transformers.Dinov2Config(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518)
    return transformers.Dinov2Model(config)
  base = {'image_size': side}
  if name == 'mae_vitb16':
    # As a plain encoder: MAE's own shuffles patches even where it masks none.
    return transformers.ViTModel(transformers.ViTConfig(**base), add_pooling_layer=False)
  if name == 'clip_vitb16':
    return transformers.CLIPVisionModel(
      transformers.CLIPVisionConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, patch_size=16, **base
      )
    )
  if name == 'siglip_vitb16':
    config = transformers.SiglipVisionConfig(patch_size=16, vision_use_head=False, **base)
    return transformers.SiglipVisionModel(config)
  assert name == 'sam_vitb16', name
  return transformers.SamVisionModel(transformers.SamVisionConfig(**base))


def restorer_pair(name: str) -> tuple[Any, Any, np.ndarray]:
  """As `foundation_pair`, for a network on pixels, or 'nafnet' on latents."""
  if name == 'nafnet':
    module = restorers.build(name, channels=LATENT[-1])
    options = {'name': name, 'channels': LATENT[-1], 'width': module.width, 'blocks': module.blocks}
    shape = (LATENTS, *LATENT)
  else:
    module, options, shape = pixel.build(name), pixel.NETWORKS[name], (1, PIXEL_CROP, PIXEL_CROP, 3)
  x = np.random.default_rng(0).random(shape, np.float32)
  shapes = jax.eval_shape(functools.partial(module.init, train=False), jax.random.key(0), x[:1, :32, :32])
  # Drawn here: to compile the drawing of some networks takes minutes.
  rng = np.random.default_rng(0)
  variables = jax.tree.map(lambda leaf: np.abs(0.02 * rng.standard_normal(leaf.shape, np.float32)), shapes)
  fixed = {key: value for key, value in variables.items() if key != 'params'}

  def apply(params: Any, x: jax.Array) -> jax.Array:
    return module.apply({'params': params, **fixed}, x, train=False)

  theirs, _ = make_restorers_golden.model(options, checkout=os.environ.get(make_restorers_golden.CHECKOUT))
  return (apply, variables['params']), theirs, x


CASES: dict[str, Callable[[str], tuple[Any, Any, np.ndarray]]] = {
  **dict.fromkeys(('dinov2_vits14', 'mae_vitb16', 'clip_vitb16', 'siglip_vitb16', 'sam_vitb16'), foundation_pair),
  **dict.fromkeys(('nafnet', 'nafnet_gopro_width32', 'restormer_deraining', 'sfhformer_l'), restorer_pair),
}


def calls(name: str) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
  """Returns (ours, theirs), ready to be called, by what is computed; ours are compiled."""
  import torch

  (apply, params), theirs, x = CASES[name](name)
  theirs.eval()  # As ours: no dropout, running statistics.
  images = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
  parameters = [value for value in theirs.parameters() if value.requires_grad]
  x = jax.device_put(x)

  def loss(params: Any, x: jax.Array) -> jax.Array:
    return jnp.mean(jnp.square(apply(params, x)))

  def their_output() -> Any:
    found = theirs(images)
    return found if isinstance(found, torch.Tensor) else found.last_hidden_state

  def their_forward() -> None:
    with torch.no_grad():
      their_output()

  def their_backward() -> None:
    torch.autograd.grad(their_output().square().mean(), parameters, allow_unused=True)

  forward = jax.jit(apply).lower(params, x).compile()
  backward = jax.jit(jax.grad(loss)).lower(params, x).compile()
  return {
    'forward': (lambda: jax.block_until_ready(forward(params, x)), their_forward),
    'forward + backward': (lambda: jax.block_until_ready(backward(params, x)), their_backward),
  }


def measure(name: str, rounds: int) -> Iterator[dict[str, Any]]:
  """Yields one row for each thing that is computed: medians, and the median of the ratios, ours over theirs."""
  for what, pair in calls(name).items():
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
      for call, found in zip(pair, seconds):
        time.sleep(PAUSE_SECONDS)
        started = time.perf_counter()
        call()
        if turn:  # The first warms up.
          found.append(time.perf_counter() - started)
    ratio = statistics.median(a / b for a, b in zip(*seconds))
    ours, theirs = (round(statistics.median(found), 4) for found in seconds)
    yield {'network': name, 'what': what, 'ours_s': ours, 'pytorch_s': theirs, 'ratio': round(ratio, 3)}


def profile(name: str) -> dict[str, float]:
  """Returns the kinds of operations of one forward and backward pass of ours, and their shares of all threads' time."""
  ours, _ = calls(name)['forward + backward']
  ours()
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder, create_perfetto_trace=True):
      ours()
    (file,) = pathlib.Path(folder).rglob('perfetto_trace.json.gz')
    events = json.loads(gzip.decompress(file.read_bytes()))['traceEvents']
  kinds = collections.Counter()
  for event in events:
    # An operation of XLA is named in lower case, with a number; ynn_fusion is one that its library computes: matrix
    # products, convolutions and sums. Those with a body would be counted twice.
    if event.get('ph') == 'X' and re.fullmatch(r'[a-z][a-z_-]*(\.\d+)*', event['name']):
      kinds[event['name'].split('.')[0]] += event['dur']
  for kind in ('while', 'call', 'conditional'):
    kinds.pop(kind, None)
  total = sum(kinds.values())
  return {kind: round(time / total, 3) for kind, time in kinds.most_common(6)}


def main() -> None:
  """Measures or profiles and writes the result, or writes its tables."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--only', nargs='+', choices=tuple(CASES), default=list(CASES), help='networks; default all')
  parser.add_argument('--rounds', type=int, default=5, help='default %(default)s')
  parser.add_argument('-o', '--output', type=pathlib.Path, default=OUTPUT, help='JSON file; default %(default)s')
  parser.add_argument('--profile', action='store_true', help='instead, add profiles to the file')
  parser.add_argument('--readme', action='store_true', help='instead, write the tables of the file to README.md')
  options = parser.parse_args()
  report = json.loads(options.output.read_text(encoding='utf-8')) if options.output.is_file() else {}
  if options.readme:
    records.write_section(README, tables(report), MARKS)
    return
  if options.profile:
    for name in options.only:
      report.setdefault('profiles', {})[name] = profile(name)
      print(name, report['profiles'][name], flush=True)
      results.write_json(options.output, report, indent=1)
    return
  import torch

  versions = {'torch': torch.__version__, 'torch_threads': torch.get_num_threads()}
  report = records.made_by() | versions | {'load_average': os.getloadavg()[0], 'rounds': options.rounds, 'rows': []}
  for name in options.only:
    for row in measure(name, options.rounds):
      report['rows'].append(row)
      print(row, flush=True)
    jax.clear_caches()
    results.write_json(options.output, report, indent=1)  # After every network: what has been measured is kept.


def tables(report: dict[str, Any]) -> str:
  """Returns the ratios, and the profiles, as Markdown."""
  rows, lines = {}, []
  for row in report['rows']:
    rows.setdefault(row['network'], {})[row['what']] = row
  for name, found in rows.items():
    cells = [f'{found[what]["ratio"]:.2f} x {found[what]["pytorch_s"]:.2f} s' for what in WHAT]
    shares = [f'{kind} {share:.0%}' for kind, share in report.get('profiles', {}).get(name, {}).items()]
    lines.append([name, *cells, ', '.join(shares[:4])])
  return results.markdown(('network', *WHAT, 'where forward + backward takes its time'), lines)


if __name__ == '__main__':
  main()
