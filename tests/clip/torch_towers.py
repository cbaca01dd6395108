"""Small CLIP and SigLIP models of transformers', inputs for them, and how far ours may be from theirs."""

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel, PreTrainedModel, SiglipConfig, SiglipModel

VOCABULARY = 50
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def clip_config(eos_token_id: int = VOCABULARY - 1, activation: str = "quick_gelu") -> CLIPConfig:
    """Towers of different widths, and features that are neither's."""
    ids = {"bos_token_id": VOCABULARY - 2, "eos_token_id": eos_token_id, "pad_token_id": 0}
    text = {**TOWER, **ids, "vocab_size": VOCABULARY, "max_position_embeddings": 16, "hidden_act": activation}
    vision = {**TOWER, "hidden_size": 48, "image_size": 32, "patch_size": 8, "hidden_act": activation}
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)


def siglip_config(projection_size: int = 32) -> SiglipConfig:
    """Images of 35 pixels, of which patches of 8 leave three at the edges."""
    text = {**TOWER, "vocab_size": VOCABULARY, "max_position_embeddings": 12, "projection_size": projection_size}
    return SiglipConfig(text_config=text, vision_config={**TOWER, "image_size": 35, "patch_size": 8})


def torch_model(config: CLIPConfig | SiglipConfig) -> PreTrainedModel:
    """Random weights everywhere, the norms' and biases' too: at their initial 1 and 0 a mix-up would not show."""
    torch.manual_seed(0)
    model = (CLIPModel if isinstance(config, CLIPConfig) else SiglipModel)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def inputs(count: int = 4, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [B, H, W, 3] and token ids [B, T] that end at different places."""
    rng = np.random.default_rng(0)
    ids = rng.integers(3, VOCABULARY - 2, (count, 12))
    ids[:, 0] = VOCABULARY - 2
    for row in range(count):
        ids[row, 5 + row :] = 0
        ids[row, 5 + row] = VOCABULARY - 1
    return rng.normal(size=(count, size, size, 3)).astype(np.float32), ids


def torch_features(model: PreTrainedModel, pixels: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        images = model.get_image_features(pixel_values=torch.tensor(pixels.transpose(0, 3, 1, 2))).pooler_output
        texts = model.get_text_features(input_ids=torch.tensor(ids)).pooler_output
    return images.numpy(), texts.numpy()


def worst(ours, theirs: np.ndarray) -> float:
    """The largest difference as a share of the features' length."""
    return float((np.abs(np.asarray(ours) - theirs).max(axis=1) / np.linalg.norm(theirs, axis=1)).max())
