"""The towers of open_clip's checkpoints once more, in torch: what `cachefl_jax.clip.open_clip` is held to.

Written from Radford et al., arXiv 2103.00020, and from the names that the tensors have in the files, so that a
`state_dict` is such a file. Nothing here is shared with the code under test. It stands in for open_clip itself, which
would bring torchvision and timm along; where that is installed, test_open_clip.py compares the two.
"""

import json
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

TEXT = {"context_length": 12, "vocab_size": 50, "width": 32, "heads": 4, "layers": 2}
RESNET = {"layers": [1, 2, 1, 1], "width": 8, "head_width": 32, "image_size": 64, "patch_size": None}
VIT = {"layers": 2, "width": 48, "head_width": 16, "image_size": 32, "patch_size": 8, "mlp_ratio": 3.0}


def small_config(vision: dict = RESNET, quick_gelu: bool = True) -> dict:
    """A config in open_clip's format, of a model with 24 features."""
    return {
        "model_cfg": {"embed_dim": 24, "quick_gelu": quick_gelu, "vision_cfg": dict(vision), "text_cfg": dict(TEXT)},
        "preprocess_cfg": {
            "mean": [0.4, 0.5, 0.6],
            "std": [0.2, 0.3, 0.4],
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


class Block(nn.Module):
    """Convolutions of 1, 3 and 1 pixels a side around a shortcut; a stride is a mean."""

    def __init__(self, inputs: int, inner: int, stride: int):
        super().__init__()
        self.stride = stride
        self.conv1, self.bn1 = nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, 4 * inner, 1, bias=False), nn.BatchNorm2d(4 * inner)
        if stride > 1 or inputs != 4 * inner:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, 4 * inner, 1, bias=False), nn.BatchNorm2d(4 * inner))

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = self.bn3(self.conv3(functional.avg_pool2d(y, self.stride)))
        if hasattr(self, "downsample"):
            x = self.downsample(functional.avg_pool2d(x, self.stride))
        return (x + y).relu()


class Pool(nn.Module):
    """The mean position's attention to all positions and itself, in explicit softmax."""

    def __init__(self, positions: int, channels: int, heads: int, features: int):
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.zeros(positions + 1, channels))
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(channels, channels) for _ in range(3))
        self.c_proj = nn.Linear(channels, features)

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([x.mean(1, keepdim=True), x], 1) + self.positional_embedding
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)) for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        scores = torch.einsum("bhd,bkhd->bhk", query[:, 0], key) / query.shape[-1] ** 0.5
        return self.c_proj(torch.einsum("bhk,bkhd->bhd", scores.softmax(-1), value).flatten(1))


class ResNet(nn.Module):
    def __init__(self, vision: dict, features: int):
        super().__init__()
        width, size = vision["width"], vision["image_size"]
        stem = ((3, width // 2, 2), (width // 2, width // 2, 1), (width // 2, width, 1))
        for number, (inputs, outputs, stride) in enumerate(stem, 1):
            setattr(self, f"conv{number}", nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False))
            setattr(self, f"bn{number}", nn.BatchNorm2d(outputs))
        inputs = width
        for number, count in enumerate(vision["layers"], 1):
            inner, stride = width * 2 ** (number - 1), 2 if number > 1 else 1
            first, rest = Block(inputs, inner, stride), [Block(4 * inner, inner, 1) for _ in range(count - 1)]
            setattr(self, f"layer{number}", nn.Sequential(first, *rest))
            inputs = 4 * inner
        self.attnpool = Pool((size // 32) ** 2, inputs, inputs // vision["head_width"], features)

    def forward(self, x):
        for convolution, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = norm(convolution(x)).relu()
        x = functional.avg_pool2d(x, 2)
        return self.attnpool(self.layer4(self.layer3(self.layer2(self.layer1(x)))))


class Layer(nn.Module):
    """A pre-norm transformer block; `mask` [T, T] is added to the scores."""

    def __init__(self, width: int, heads: int, inner: int, quick: bool):
        super().__init__()
        self.quick = quick
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, inner), "c_proj": nn.Linear(inner, width)})

    def forward(self, x, mask):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, attn_mask=mask, need_weights=False)[0]
        y = self.mlp["c_fc"](self.ln_2(x))
        y = y * torch.sigmoid(1.702 * y) if self.quick else functional.gelu(y)
        return x + self.mlp["c_proj"](y)


class Stack(nn.Module):
    def __init__(self, count: int, *sizes):
        super().__init__()
        self.resblocks = nn.ModuleList([Layer(*sizes) for _ in range(count)])

    def forward(self, x, mask=None):
        for layer in self.resblocks:
            x = layer(x, mask)
        return x


class ViT(nn.Module):
    def __init__(self, vision: dict, features: int, quick: bool):
        super().__init__()
        width, patch = vision["width"], vision["patch_size"]
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros(1 + (vision["image_size"] // patch) ** 2, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        inner = int(width * vision["mlp_ratio"])
        self.transformer = Stack(vision["layers"], width, width // vision["head_width"], inner, quick)
        self.proj = nn.Parameter(torch.zeros(width, features))

    def forward(self, x):
        x = self.conv1(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj


class Reference(nn.Module):
    """Both towers of a config in open_clip's format."""

    def __init__(self, config: dict):
        super().__init__()
        model = config["model_cfg"]
        features, text, quick = model["embed_dim"], model["text_cfg"], model["quick_gelu"]
        residual = isinstance(model["vision_cfg"]["layers"], list)
        self.visual = ResNet(model["vision_cfg"], features) if residual else ViT(model["vision_cfg"], features, quick)
        width, length = text["width"], text["context_length"]
        self.transformer = Stack(text["layers"], width, text["heads"], 4 * width, quick)
        self.token_embedding = nn.Embedding(text["vocab_size"], width)
        self.positional_embedding = nn.Parameter(torch.zeros(length, width))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.zeros(width, features))
        self.logit_scale = nn.Parameter(torch.tensor(3.0))

    def image_features(self, pixels: np.ndarray) -> np.ndarray:
        """[B, H, W, 3] to [B, D]."""
        with torch.no_grad():
            return self.visual(torch.tensor(pixels.transpose(0, 3, 1, 2))).numpy()

    def text_features(self, ids: np.ndarray) -> np.ndarray:
        """[B, T] to [B, D]."""
        length = ids.shape[1]
        mask = torch.full((length, length), -torch.inf).triu(1)
        with torch.no_grad():
            x = self.token_embedding(torch.tensor(ids)) + self.positional_embedding[:length]
            x = self.ln_final(self.transformer(x, mask))
            return (x[torch.arange(len(ids)), torch.tensor(ids.argmax(1))] @ self.text_projection).numpy()


def reference(config: dict) -> Reference:
    """With random weights, none left at an initial 0 or 1, where a mix-up would not show, and the batch norms'
    statistics taken from images, as training leaves them, so that features differ from image to image."""
    torch.manual_seed(0)
    model = Reference(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    model.train().image_features(inputs(config, count=16)[0])
    return model.eval()


def inputs(config: dict, count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [B, H, W, 3] of coarse patches under noise, and token ids [B, T] that end at different places."""
    rng = np.random.default_rng(count)
    size, text = config["model_cfg"]["vision_cfg"]["image_size"], config["model_cfg"]["text_cfg"]
    coarse = rng.normal(size=(count, 4, 4, 3)).repeat(size // 4, axis=1).repeat(size // 4, axis=2)
    pixels = coarse + 0.3 * rng.normal(size=coarse.shape)
    end, length = text["vocab_size"] - 1, text["context_length"]
    ids = rng.integers(1, end - 1, (count, length))
    for row in range(count):
        ids[row, 4 + row % (length - 4) :] = 0
        ids[row, 4 + row % (length - 4)] = end
    return pixels.astype(np.float32), ids


def save(model: nn.Module, config: dict, directory: pathlib.Path) -> None:
    """Writes a checkpoint in open_clip's format."""
    save_file(model.state_dict(), directory / "open_clip_model.safetensors")
    (directory / "open_clip_config.json").write_text(json.dumps(config))


def share(ours, theirs: np.ndarray) -> float:
    """The largest difference as a share of the features' length."""
    return float((np.abs(np.asarray(ours) - theirs).max(axis=1) / np.linalg.norm(theirs, axis=1)).max())
