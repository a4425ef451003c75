"""The recipe of the bundled weights: six degradations and their composites, on real photographs and painted images.

  python -m lh_jax.main --config=configs/bundled.py --workdir=runs/bundled --config.data.path=PHOTOGRAPHS
  python -m lh_jax.main --config=configs/bundled.py:gpu ...                  # the paper's number of steps

Stage 1, the restorer and the two branches follow each other in one run, as the paper orders them; the same command goes
on after an interruption. The argument scales it: 'cpu', the default, to two cores in under two hours; 'gpu' to the
paper's 64 000 + 32 000 steps on one accelerator, with photographs of 512 pixels or more. Steps, batches and crops (and
with them what the foundation model sees) differ; the embedded photographs are smaller than the crops of 'gpu', and left
out; its images lie on the accelerator, so that it never waits for them.
"""

from pathlib import Path
import runpy

from ml_collections import ConfigDict

BASE = runpy.run_path(str(Path(__file__).with_name('base.py')))
SCALES = {
  'cpu': {
    'stage1': {'steps': 12_000, 'reconstruction_steps': 10_000, 'batch_size': 4, 'crop_size': 96},
    'stage2': {
      'restorer_steps': 13_000,
      'lora_steps': 300,
      'batch_size': 4,
      'crop_size': 128,
      # Ever larger crops, up to what the embedded photographs hold; as before for the branches.
      'progressive': ((4_000, 2, 256), (9_500, 1, 384), (13_000, 4, 128)),
    },
  },
  'gpu': {
    'data': {'source': 'folder+dead_leaves', 'device_gib': 8.0},
    'stage1': {'steps': 64_000, 'reconstruction_steps': 53_000, 'batch_size': 16, 'crop_size': 256},
    'stage2': {'restorer_steps': 24_000, 'lora_steps': 8_000, 'batch_size': 8, 'crop_size': 512},
  },
}


def get_config(arg: str = 'cpu') -> ConfigDict:
  """Returns the recipe at a scale, 'cpu' (also '') or 'gpu'."""
  scale = arg or 'cpu'
  if scale not in SCALES:
    raise ValueError(f'Unknown argument {arg!r} of configs/bundled.py; known: {", ".join(SCALES)}.')
  config = BASE['get_config']()
  config.data.source = 'embedded+folder+dead_leaves'
  config.data.dead_leaves.update({'size': 1024, 'count': 5})
  weights = {
    **dict.fromkeys(('low_light', 'haze', 'blur', 'rain', 'snow'), 1.0),
    **dict.fromkeys(('noise15', 'noise25', 'noise50', 'low_light+noise25', 'haze+low_light', 'noise25+blur'), 0.5),
    # A clean photograph is to come back as it was.
    'identity': 0.5,
  }
  config.data.tasks, config.data.task_weights = tuple(weights), tuple(weights.values())
  # Exposure and haze need the whole picture: with them, encoder and decoder learn everything else more slowly.
  config.data.stage1_tasks = ('blur', 'rain', 'snow', 'noise15', 'noise25', 'noise50', 'noise25+blur', 'identity')
  # Around the benchmark's 0.5.
  config.data.severity = (0.4, 0.6)
  # Whether it is dark or darkened, a small crop of a large photograph does not tell; one of a small copy may.
  config.data.pyramid = 6
  # The fast VAE, with twice the latent: what the latent cannot carry, nothing after it brings back. Trained from a cosine
  # transform on, it keeps more than from scratch.
  config.vae.update({'preset': 'lh_fast', 'latent_channels': 64, 'linear_path': True})
  # One coarser level, for a wider view. Exposure and haze are gains, sooner learned as such.
  config.restorer.update({'name': 'nafnet', 'width': 48, 'blocks': (2, 8, 2), 'gains': True})
  config.discriminator.features = 32
  # Encoder and decoder learn to restore from the start: the restorer begins where they end.
  config.stage1.variant = 'release'
  config.pdps.update({'probabilities': (0.1, 0.2, 0.7), 'beta': (1.0, 1.0)})
  # At the paper's 0.8, and crops this small, L_Inv's gradient is several times that of L_VAE.
  config.losses.update({'invariance': 0.1, 'equivariance_scales': (0.25, 0.5, 0.75)})
  for network, rate in (('stage1', 6e-3), ('restorer', 1e-3)):
    config.optim[network].update({'method': 'muon', 'learning_rate': rate, 'final_learning_rate': 1e-5})
  # In so few steps the adversarial term is too weak to be seen beside an L1 term, and too weak alone.
  config.losses.update({'phf_fidelity': 0.0, 'phf_perceptual': 1.0})
  # The discriminator is to stay ahead of the decoder's branch.
  for network, rate in (('encoder_lora', 2e-4), ('decoder_lora', 5e-4), ('discriminator', 2e-3)):
    config.optim[network].update({'learning_rate': rate})
  config.optim.discriminator.final_learning_rate = 1e-3
  for stage, values in SCALES[scale].items():
    config[stage].update(values)
  # VGG16 would take more time than the VAE at the full size.
  config.foundation.update({'name': 'vgg16', 'input_size': config.stage1.crop_size // 2})
  config.data.cache_gib = 6.0
  config.train.update({'checkpoint_steps': 500, 'image_steps': 2_500})
  return config
