"""Exports: what training hands to inference, a folder with params.safetensors and config.json, loadable without any
training code.

config.json holds the sections that fix the architecture (`networks.SECTIONS`), the last finished stage, and the version
that wrote it.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any, Mapping

import jax

import lh_jax
from lh_jax import networks as networks_lib
from lh_jax import weight_files

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Export:
  """A model on the host.

  Attributes:
    sections: the config sections of its architecture, for `networks.build`.
    params: its parts, numpy arrays; stage 1 alone lacks the restorer and LoRA parts.
    stage: 'stage1' or 'stage2', the last stage that has finished.
  """

  sections: dict[str, dict[str, Any]]
  params: dict[str, Any]
  stage: str


def save(folder: pathlib.Path, export: Export) -> None:
  """Writes an export, each file atomically, parameters last."""
  folder.mkdir(parents=True, exist_ok=True)
  config = {'format': FORMAT, 'lh_jax': lh_jax.__version__, 'stage': export.stage} | export.sections
  temporary = folder / '.config.json.tmp'
  temporary.write_text(json.dumps(config, indent=2) + '\n', encoding='utf-8')
  temporary.replace(folder / 'config.json')
  weight_files.save(folder / 'params.safetensors', export.params, {'stage': export.stage})


def find(path: pathlib.Path) -> pathlib.Path:
  """Returns the export folder in `path`: a work directory, or an export itself.

  Raises:
    FileNotFoundError: there is none.
  """
  for folder in (path / 'export', path):
    if (folder / 'params.safetensors').is_file() and (folder / 'config.json').is_file():
      return folder
  raise FileNotFoundError(
    f'{path} holds no export: name a work directory of a finished training run, or its export folder with '
    'params.safetensors and config.json.'
  )


def load(path: pathlib.Path) -> Export:
  """Reads an export and checks every tensor against its architecture.

  Args:
    path: a work directory, or an export itself.

  Raises:
    FileNotFoundError: there is none.
    ValueError: a file is damaged, or of another format or model.
  """
  folder = find(path)
  try:
    config = json.loads((folder / 'config.json').read_text(encoding='utf-8'))
    found_format, stage = config['format'], config['stage']
    sections = {name: config[name] for name in networks_lib.SECTIONS}
  except (ValueError, KeyError) as error:
    raise ValueError(f'{folder / "config.json"} is no export configuration ({error!r}).') from error
  if found_format != FORMAT:
    raise ValueError(
      f'{folder} has export format {found_format!r}, this version reads {FORMAT}: export it again, or use the '
      'version that wrote it.'
    )
  shapes = abstract_params(sections, stage)
  params, _ = weight_files.load(folder / 'params.safetensors', shapes)
  # A file holds arrays only: a part without any (the statistics of a restorer without batch norm) comes back here.
  params = {name: params.get(name, {}) for name in shapes}
  return Export(sections=sections, params=params, stage=stage)


def abstract_params(sections: Mapping[str, Mapping[str, Any]], stage: str) -> dict[str, Any]:
  """Returns the shapes of the parameters of an export of this architecture after `stage`."""
  shapes = jax.eval_shape(networks_lib.build(sections).init, jax.random.key(0))
  parts = networks_lib.STAGE1_PARTS if stage == 'stage1' else networks_lib.PARTS
  return {name: shapes[name] for name in parts}
