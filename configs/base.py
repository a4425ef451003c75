"""Every field of a configuration, once, with the paper's values. The others import this one and change what differs.

  python -m lh_jax.main --config=configs/base.py --workdir=runs/base \\
      --config.data.source=folder --config.data.path=PHOTOGRAPHS

Values come from the paper and its supplement where they give one (steps, batches, loss weights, the alternation); the
others are ours.
"""

from ml_collections import ConfigDict
from ml_collections import config_dict


def get_config() -> ConfigDict:
  """Returns the default configuration."""
  config = ConfigDict()

  config.data = ConfigDict(
    {
      # 'embedded' (scikit-image's photographs), 'folder' (clean photographs), 'pairs' (input/ and gt/, or one such
      # folder per task), 'dead_leaves', and those without pairs joined by '+'; a published data set: 'uhd_ll',
      # 'uhd_blur', 'uhd_haze', 'uhd_rain', 'uhd_snow', 'uhd_noise', 'uhd_moire', 'gends', or several joined by '+',
      # whose folders lie in path under these names;
      # 'crops' (what python -m lh_jax.data prepare made, of one set or one folder for each).
      'source': 'embedded',
      'path': '',
      # Of published data sets and crops: 'train' leaves out the fixed validation images, 'train+val' takes them too.
      'split': 'train',
      # What clean photographs are degraded with, and how often each is drawn; see lh_jax.ops.degradations.BENCHMARK.
      # 'identity' leaves them clean.
      'tasks': ('low_light', 'haze', 'blur', 'rain', 'snow', 'noise15', 'noise25', 'noise50'),
      'task_weights': (1.0, 1.0, 1.0, 1.0, 1.0, 1.0 / 3, 1.0 / 3, 1.0 / 3),
      # Those of them that stage 1 draws for clean images, where it is to leave the others to the restorer; empty: all.
      'stage1_tasks': (),
      # Severities of the modelled degradations are uniform in this range, within [0, 1].
      'severity': (0.2, 1.0),
      # How many sizes of each clean image there are, 1, 1/2, 1/4, ...: a crop of a smaller one shows more of the scene.
      # Copies smaller than the crop of a stage are not drawn there.
      'pyramid': 1,
      # Painted images, for source='dead_leaves'; side in pixels.
      'dead_leaves': {'size': 3840, 'count': 16, 'seed': 0},
      'num_threads': 2,
      'prefetch': 4,
      'cache_gib': 4.0,
      # A set of clean images that takes no more of each device's memory lies there, as uint8, and is cropped there.
      'device_gib': 0.0,
      # A run that gets no batch for so long ends with an error.
      'timeout_seconds': 900,
    }
  )

  # Presets: lh_jax.models.vae.PRESETS. None keeps the preset's value.
  config.vae = ConfigDict(
    {
      'preset': 'lh',
      'norm': config_dict.placeholder(str),
      'kl_weight': config_dict.placeholder(float),
      'latent_channels': config_dict.placeholder(int),
      'linear_path': config_dict.placeholder(bool),
      'stem': config_dict.placeholder(int),
      'channels': config_dict.placeholder(tuple),
      'encoder_blocks': config_dict.placeholder(tuple),
      'decoder_blocks': config_dict.placeholder(tuple),
    }
  )
  # 'sfhformer', 'nafnet' or 'restormer', in presets of one budget; None keeps the preset's value. Each has blocks; further
  # SFHformer dims, groups and norm, NAFNet width and gains, Restormer width, heads, refinement and norm: see
  # lh_jax.models.restorers.
  config.restorer = ConfigDict(
    {
      'name': 'sfhformer',
      'dims': config_dict.placeholder(tuple),
      'width': config_dict.placeholder(int),
      'blocks': config_dict.placeholder(tuple),
      'heads': config_dict.placeholder(tuple),
      'refinement': config_dict.placeholder(int),
      'groups': config_dict.placeholder(int),
      'norm': config_dict.placeholder(str),
      'gains': config_dict.placeholder(bool),
    }
  )
  # Rank: the supplement prints "0.6"; 8 is the authors' release. Of vae.preset='lh_fe', few convolutions have 3x3
  # pixels: with min_kernel=1 all do that see more than one channel.
  config.lora = ConfigDict({'rank': 8, 'alpha': 8.0, 'min_kernel': 3})
  config.discriminator = ConfigDict({'features': 64})
  # The paper's is 'dinov2_vits14' (its weights must be downloaded and converted); 'vgg16' works offline. An empty path
  # is the converter's default place.
  # Without an input size, one token per 16 pixels of the crop (DINOv2: 256 is resized to 224), VGG16: one per 8; so it is
  # in stage 2, which takes the model for losses.phf_perceptual, whatever the input size.
  config.foundation = ConfigDict({'name': 'dinov2_vits14', 'weights': '', 'input_size': config_dict.placeholder(int)})

  config.losses = ConfigDict(
    {
      'invariance': 0.8,
      'invariance_distance': 'cosine',
      'equivariance': 0.6,
      'equivariance_scales': (0.25, 0.375, 0.5, 0.625, 0.75, 0.875),
      'hf_cutoff': 0.25,
      'hf_fidelity': 1.0,
      'gan': 0.1,
      'gan_kind': 'vanilla',
      'phf_fidelity': 1.0,
      'phf_perceptual': 0.0,
    }
  )
  config.pdps = ConfigDict(
    {
      'probabilities': (0.2, 0.4, 0.4),
      'severity': (0.1, 1.0),
      'beta': (0.0, 1.0),
      'blur_sigma': (0.2, 4.0),
      'noise_sigma': (0.0, 50.0),
      'jpeg_quality': (95.0, 30.0),
    }
  )

  config.stage1 = ConfigDict(
    {
      'steps': 64_000,
      # Of them, at the start, with L_VAE alone, as VAE2, on which the paper builds, is trained; 0 in the paper.
      'reconstruction_steps': 0,
      'batch_size': 16,
      'crop_size': 256,
      'variant': 'paper',
      'ema_decay': 0.999,
    }
  )
  config.stage2 = ConfigDict(
    {
      'restorer_steps': 24_000,
      'lora_steps': 8_000,
      # FHF and PHF in turn; one of them leaves the other branch untrained.
      'lora_phases': ('encoder_lora', 'decoder_lora'),
      'alternate_steps': 10,
      'batch_size': 8,
      'crop_size': 512,
      # Progressive learning: ((step, batch_size, crop_size), ...), what both become after so many steps of the stage.
      'progressive': (),
      'fhf_path': 'with_restorer',
      'joint_restorer': False,
      'ema_decay': 0.999,
    }
  )
  # method: 'adamw' or 'muon', see lh_jax.optim.
  adamw = {'method': 'adamw', 'b1': 0.9, 'b2': 0.99, 'clip_norm': 1.0, 'weight_decay': 1e-3}
  lora = adamw | {'learning_rate': 1e-4, 'final_learning_rate': 1e-6, 'warmup_steps': 0, 'weight_decay': 0.0}
  config.optim = ConfigDict(
    {
      'stage1': adamw | {'learning_rate': 2e-4, 'final_learning_rate': 5e-7, 'warmup_steps': 500},
      'restorer': adamw | {'learning_rate': 4e-4, 'final_learning_rate': 1e-7, 'warmup_steps': 500},
      'encoder_lora': dict(lora),
      'decoder_lora': dict(lora),
      'discriminator': lora | {'final_learning_rate': 1e-4},
    }
  )

  # The devices of all processes as a product: 'data' (-1: all that the others leave) splits the batch; 'fsdp' the batch
  # and the parameters; 'space' the rows of the images. The global batch stays what it is.
  config.mesh = ConfigDict({'data': -1, 'fsdp': 1, 'space': 1})
  # Several processes. start: 'auto' where a TPU slice, GKE, SLURM or the variables JAX_COORDINATOR_ADDRESS,
  # JAX_NUM_PROCESSES and JAX_PROCESS_ID are detected; 'on', with what is not detected named here; 'off'.
  config.hosts = ConfigDict(
    {
      'start': 'auto',
      'coordinator': '',
      'count': config_dict.placeholder(int),
      'index': config_dict.placeholder(int),
      'timeout_seconds': 1800,
    }
  )
  # Writes a trace of five early steps of every stage to profile/ in the work directory, for xprof.
  config.profile = False
  config.train = ConfigDict(
    {
      'stages': ('stage1', 'stage2'),
      'seed': 0,
      # A finished stage-1 run (work directory or export) to start stage 2 from, where this run does not train stage 1
      # itself.
      'init_from': '',
      'dtype': 'auto',
      'log_steps': 50,
      'image_steps': 1000,
      'checkpoint_steps': 1000,
      'keep_checkpoints': 2,
      'tensorboard': True,
    }
  )
  config.evaluate = ConfigDict(
    {
      # As in the section data; the split 'val' is for choosing among models.
      'source': 'embedded',
      'path': '',
      'split': 'test',
      # Several data sets instead, each 'NAME=SOURCE:PATH'; without 'NAME=' a set is called after its source.
      'sets': (),
      # What clean photographs are degraded with, how badly, and what the restored ones are of: 1 most faithful,
      # 0 most perceptual.
      'tasks': ('low_light', 'haze', 'blur', 'rain', 'snow', 'noise15', 'noise25', 'noise50'),
      'severity': 0.5,
      'alpha': 0.5,
      # Of each task; 0 takes every image.
      'max_images': 0,
      # What is measured, see lh_jax.protocols.PROTOCOLS. LPIPS 'auto' where its weights have been converted, or 'none'.
      'protocol': 'uhd',
      'lpips': 'auto',
      # Files of models: NIQE's (see lh_jax.metrics.niqe.load), and the Inception weights of FID (python -m
      # lh_jax.convert inception_fid); empty leaves the metric out. FID takes 'image' (shrunk to 299 pixels) or 'patch'.
      'niqe': '',
      'fid': '',
      'fid_kind': 'image',
      # That share the rows of an image, in every process; the processes share the images.
      'devices': 1,
      # Worst images that report.html shows, spread over the tasks; 0 for none.
      'report_images': 24,
      # After training, evaluate the export and write its tables and pictures.
      'after_training': False,
    }
  )
  # The options of lh-restore, see lh-restore --help; the dtype is train.dtype.
  config.restore = ConfigDict(
    {
      # An image, or a folder of images; the image or folder to write.
      'input': '',
      'output': '',
      # A work directory or export folder; empty takes the run in --workdir.
      'checkpoint': '',
      # 1: most faithful, 0: most perceptual.
      'alpha': 0.5,
      # 'auto', 'full', or the pixels on a side that a tile yields; any of them gives the same result.
      'tile': 'auto',
      # That tiles may take, like '4G'; empty takes what is free.
      'max_memory': '',
      # That share the rows of an image.
      'devices': 1,
      # 'keep' or 'strip' the EXIF data.
      'metadata': 'keep',
      # Of JPEG and WebP, 1 to 100.
      'quality': 95,
      # Also the images in sub-folders; also files whose output exists.
      'recursive': False,
      'overwrite': False,
      # A .json file for what became of every file; empty for none.
      'report': '',
    }
  )
  return config
