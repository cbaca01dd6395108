"""Every field of a config: its name, default, meaning, and what it may be. This table is their one source.

`cachefl_jax.config.default` is made from it, `python -m experiments.fields` prints it, and every config is held to it.
A new field is one entry here. This file must not wait for JAX to load.
"""

import pathlib

from cachefl_jax.config.field import Field
from cachefl_jax.config.names import AGGREGATIONS, ALGORITHMS, METHODS, PARTICIPATIONS, TRANSFORMS
from cachefl_jax.config.ranges import (
    all_named,
    any_of,
    at_least,
    between,
    finite,
    one_named,
    one_of,
    or_own,
    three_splits,
    whatever,
    within,
)
from cachefl_jax.config.rows import METHOD_NAMES

SOURCES = ("digits", "feature_bank", "image_folder", "hub", "idx")
SUITE = tuple(sorted(path.stem for path in (pathlib.Path(__file__).parents[1] / "data" / "suite").glob("*.json")))
FOUND = ("natural", "given")  # partitions that bring their own number of clients
STRATEGIES = ("scan", "chunk", "vmap", "dual")  # cachefl_jax.federation's
LAYOUTS = (
    "class", "class/site", "site/class", "split/class", "split/class/site", "split/site/class", "class/split",
    "site/split/class",
)  # fmt: skip
CHANGES = ("brightness", "contrast", "blur", "noise", "rotation", "jpeg")
SPLITS = "name what the source calls training, validation and test rows; '' for what it has not"
CHOOSE, RAISE, FINITE = "choose one of these", "raise it", "give a finite value in range"
TEXT, TEXTS = whatever("a text, or nothing"), whatever("texts, such as ('one','two'), or ()")
SWITCH = whatever("True or False")
NONE = "leave it out"


TRAINED = {name: place for name, place in METHODS.items() if name != "zero_shot"}  # which has nothing to train
SERVER_OPTIMIZERS = ("sgd", "adam", "adagrad", "yogi")

# fmt: off
FIELDS = (
    Field("seed", 0, "what all that is drawn at random comes from: partition, images, batches",
          lambda seed: 0 <= seed < 2**32, "a whole number from 0 to 4294967295", "choose another"),

    Field("data.name", "digits", "where the rows come from", *one_of(*SOURCES, *SUITE), CHOOSE),
    Field("data.path", "", "a bank's file; the folder of image_folder and idx; a named data set's own local folder",
          *TEXT, NONE),
    Field("data.shots", 0, "training rows a class; 0 = all. Else validation has at most 4 a class, as in CoOp",
          *at_least(0), "0 keeps all rows"),
    Field("data.hub", "", "data.name=hub: OWNER/NAME on the Hugging Face hub, or a folder that datasets saved",
          *TEXT, NONE),
    Field("data.hub_config", "", "the hub data set's configuration, where it has several", *TEXT, NONE),
    Field("data.layout", "auto", "image_folder: what the folders are from data.path down, such as site/class",
          *one_of("auto", *LAYOUTS), "auto tells the layouts apart by names and structure"),
    Field("data.splits", ("train", "validation", "test"), "what the source calls its splits; '' = it has none",
          three_splits, "three different names, the first not empty", SPLITS),
    Field("data.image_column", "image", "hub: the column of images", *TEXT, NONE),
    Field("data.label_column", "label", "hub: the column of labels", *TEXT, NONE),
    Field("data.group_column", "", "where a row came from, for partition.name=natural; image_folder: 'folder'",
          *TEXT, NONE),
    Field("data.split_file", "", "image_folder: which files are train, val and test", *TEXT, NONE),
    Field("data.validation_share", 0.1, "of the training rows, held out where the source has no such split",
          *within(0, 1), "0 makes no validation split"),
    Field("data.test_share", 0.2, "of every class, held out where the source has no such split",
          *between(0, 1), "0.2 holds out a fifth of every class"),
    Field("data.class_names", (), "the classes' names; none = the source's own", *TEXTS, NONE),
    Field("data.broken", "stop", "what a broken image does: it stops the run, or is left out and counted",
          *one_of("stop", "skip"), CHOOSE),
    Field("data.max_pixels", 178_956_970, "of one picture; a larger one counts as broken (Pillow's own limit)",
          *at_least(2, 2**62), RAISE),

    Field("clip.checkpoint", "pocket", "the CLIP: the embedded one, a directory, or a hub name", *TEXT, NONE),
    Field("clip.templates", (), "texts with one {} for a class's name; none = the data set's own", *TEXTS, NONE),
    Field("clip.dtype", "float32", "what the towers compute in", *one_of("float32", "bfloat16"), CHOOSE),
    Field("clip.batch_size", 0, "images an encoding step; 0 = choose", *at_least(0), "0 lets the encoder choose"),
    Field("clip.key_views", 0, "random crops of a synthetic image, averaged into its key; 0 = the plain image",
          *at_least(0, 10_000), "0 takes the plain images"),
    Field("clip.train_views", 0, "random crops of a training image, one a round in turn; 0 = the plain image",
          *at_least(0, 10_000), "0 takes the plain images"),
    Field("clip.views_seed", 0, "what the crops are drawn from", *at_least(0), RAISE),

    Field("synthesis.source", "pocket", "where the server's images come from",
          *one_of("pocket", "diffusers", "image_folder", "held_out", "bank"), CHOOSE),
    Field("synthesis.path", "", "synthesis.source=image_folder: class folders of images drawn elsewhere", *TEXT, NONE),
    Field("synthesis.images_per_class", 16, "images of a class that the server draws", *at_least(1), RAISE),
    Field("synthesis.pipeline", "", "synthesis.source=diffusers: a pipeline's directory or hub name", *TEXT, NONE),
    Field("synthesis.prompts", (), "texts with one {}, taken in turn; none = the data set's own templates",
          *TEXTS, NONE),
    Field("synthesis.steps", 20, "denoising steps an image", *at_least(1), RAISE),
    Field("synthesis.guidance", 2.0, "how far the prompt guides the generator (classifier-free guidance)",
          *finite(0), FINITE),

    Field("partition.name", "dirichlet", "how rows are dealt to clients",
          *one_of("iid", "dirichlet", "pathological", "shards", "quantity", *FOUND), CHOOSE),
    Field("partition.clients", 20, "how many; 0 with natural and given = as many as are found", *at_least(0), RAISE),
    Field("partition.concentration", 0.1, "Dirichlet's, of labels or of quantities",
          *finite(0, open_end=True), "0.1 is a strong label skew, 100 is nearly IID"),
    Field("partition.over", "classes", "dirichlet: each class shared out among clients, or each client's own mix",
          *one_of("classes", "clients"), CHOOSE),
    Field("partition.classes_per_client", 2, "partition.name=pathological", *at_least(1), RAISE),
    Field("partition.shards_per_client", 2, "partition.name=shards", *at_least(1), RAISE),
    Field("partition.quantity", "log_normal", "partition.name=quantity: what the amounts are drawn from",
          *one_of("log_normal", "power_law", "dirichlet"), CHOOSE),
    Field("partition.spread", 1.0, "log_normal's sigma, power_law's exponent", *finite(0), "0 makes all clients alike"),
    Field("partition.least", 1, "rows that every client gets", *at_least(1), "1 lets nobody go without"),
    Field("partition.path", "", "partition.name=given: a partition.npz", *TEXT, NONE),
    Field("partition.change", "none", "feature skew: what each client's images go through",
          *one_of("none", *CHANGES, "mixed"), CHOOSE),
    Field("partition.change_strength", 0.5, "the largest; each client's own is drawn up to it",
          *between(0, 1, closed=True), "0 changes nothing, 1 most"),

    Field("method", "cachefl", "what is trained", *one_named(TRAINED), CHOOSE),
    Field("methods", METHOD_NAMES, "what is compared where compare is empty; at its default it follows method",
          *any_of(*METHOD_NAMES), "drop the others from the list"),
    Field("compare", (), "what is compared: methods, each as NAME, NAME@alone, NAME@centralized or NAME@round_0; "
          "zero_shot; cache_init, local_only and centralized of method. () = methods", *TEXTS, NONE),
    Field("cache.keys_per_class", 16, "keys of a class in the cache", *at_least(1), "raise it to 1 or more"),
    Field("cache.alpha", 1.0, "weight of the cache's logits beside CLIP's (residual ratio)",
          *finite(), FINITE, traced=True),
    Field("cache.beta", 5.0, "sharpness of the affinities", *finite(), FINITE, traced=True),

    Field("local.algorithm", "fedavg", "what a client does with its rows: FedAvg (FedProx with local.proximal), "
          "SCAFFOLD (arXiv 1910.06378), FedNova (2007.07481)", *one_named(ALGORITHMS), CHOOSE),
    Field("local.optimizer", "adamw", "what a client trains with", *one_of("adamw", "sgd"), CHOOSE),
    Field("local.learning_rate", 1e-3, "the client's", *finite(0), FINITE, traced=True),
    Field("local.weight_decay", 0.01, "AdamW's, decoupled; SGD's, added to the gradient",
          *finite(0), FINITE, traced=True),
    Field("local.momentum", 0.0, "SGD's", *within(0, 1), FINITE, traced=True),
    Field("local.nesterov", False, "SGD with Nesterov's momentum", *SWITCH, NONE),
    Field("local.epsilon", 1e-4, "AdamW's; Tip-Adapter-F's value", *finite(0, open_end=True), FINITE, traced=True),
    Field("local.proximal", 0.0, "FedProx's mu", *finite(0), FINITE, traced=True),
    Field("local.clip_norm", 0.0, "largest norm of a step's gradient; 0 = any",
          *finite(0), "0 clips nothing", traced=True),
    Field("local.batch_size", 32, "rows a step; 0 = all rows of a client in one batch",
          *at_least(0), "0 trains on all rows of a client at once"),
    Field("local.epochs", 1, "how often a client goes through its rows in a round", *at_least(1), RAISE),
    Field("local.shuffle", True, "rows in a new order every epoch", *SWITCH, NONE),

    Field("server.optimizer", "sgd", "sgd: FedAvg, or FedAvgM with momentum; adam, adagrad, yogi: FedAdam, FedAdagrad, "
          "FedYogi (arXiv 2003.00295)", *one_of(*SERVER_OPTIMIZERS), CHOOSE),
    Field("server.learning_rate", -1.0, "-1 = the optimizer's own (cachefl_jax.config.SERVER_DEFAULTS)",
          *or_own(*finite(0)), FINITE, traced=True),
    Field("server.momentum", -1.0, "sgd's; beta1 of the others; -1 = the optimizer's own", *or_own(*within(0, 1)),
          FINITE, traced=True),
    Field("server.beta2", 0.99, "adam's and yogi's memory of squared updates", *within(0, 1), FINITE, traced=True),
    Field("server.tau", 1e-3, "adam's, adagrad's and yogi's adaptivity: the larger, the more like sgd",
          *finite(0, open_end=True), FINITE, traced=True),

    Field("participation.name", "cohort", "who takes part in a round: cohort clients, drawn anew; all of them; or each "
          "with probability cohort / clients", *one_named(PARTICIPATIONS), CHOOSE),
    Field("updates.transforms", (), "what happens to a client's update before it is aggregated, in this order",
          *all_named(TRANSFORMS), CHOOSE),
    Field("updates.clip_norm", 1.0, "clip: the largest L2 norm of a client's update",
          *finite(0, open_end=True), FINITE, traced=True),
    Field("updates.noise", 0.0, "noise: the standard deviation that each client adds to each number of its update",
          *finite(0), FINITE, traced=True),
    Field("aggregation.name", "mean", "how updates become one: mean weighted by rows, uniform mean, sum, or by "
          "coordinate their median or trimmed mean (arXiv 1803.01498)", *one_named(AGGREGATIONS), CHOOSE),
    Field("aggregation.trim", 0.1, "trimmed_mean: the share of the clients that is cut at each end",
          *within(0, 0.5), "0 cuts nobody"),

    Field("rounds", 20, "rounds of the federation", *at_least(0), "0 evaluates the untuned cache"),
    Field("cohort", 0, "clients a round; 0 = all", *at_least(0), "0 takes all clients"),
    Field("eval_every", 1, "rounds between two evaluations", *at_least(1), RAISE),
    Field("checkpoint_every", 10, "rounds between two checkpoints", *at_least(1), RAISE),

    Field("engine.strategy", "auto", "how a round's clients are trained; auto: the best by experience, measured "
          "where a run is long enough to gain by it", *one_of("auto", *STRATEGIES), CHOOSE),
    Field("engine.client_chunk", 0, "clients side by side on a device; 0 = choose",
          *at_least(0), "0 lets the engine choose"),
    Field("engine.block_rows", 0, "rows that the dual strategy takes at a time; 0 = choose",
          *at_least(0), "0 lets the engine choose"),
    Field("engine.devices", 0, "devices that train; 0 = all; on a CPU each core is one",
          *at_least(0), "0 takes all there are"),

    Field("evaluation.drift", False, "measures how far a round's updates lie apart", *SWITCH, NONE),
    Field("evaluation.client_rows", "reweighted", "the test rows of a client: all, weighted by its shares of the "
          "classes; or a part of them, dealt by these shares", *one_of("reweighted", "dealt"), CHOOSE),
)
# fmt: on
