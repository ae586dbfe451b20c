"""The toy KOSMOS-2 of the golden file: closed-form weights under Hugging Face names.

Sort the Hugging Face names; tensor ``j``, flat element ``i`` is made from
``s = sin(0.7 (i + 1) + 1.3 j)``: norm gains 1 + 0.1 s, biases 0.1 s, latents s, all else 0.3 s;
then the padding row of the embedding is zero.
"""

import torch

from kosmos.model.config import ConnectorConfig, DecoderConfig, ModelConfig, VisionConfig
from kosmos.model.kosmos import Kosmos

TOY = ModelConfig(
    decoder=DecoderConfig(
        vocab_size=97, width=32, num_layers=2, num_heads=4, ffn_width=64, dropout=0.1
    ),
    vision=VisionConfig(
        image_size=28, patch_size=14, width=24, num_layers=2, num_heads=3, ffn_width=48
    ),
    connector=ConnectorConfig(num_queries=3, num_heads=4, width=32, attention_dropout=0.1),
)

TOKEN_IDS = torch.tensor([[0, 90, 4, 5, 6, 91, 20, 21, 22, 2], [0, 90, 4, 5, 6, 91, 30, 31, 2, 1]])
IMAGE_SLOTS = torch.tensor([[0, 0, 1, 1, 1, 0, 0, 0, 0, 0]] * 2).bool()
VALID = torch.tensor([[1] * 10, [1] * 9 + [0]]).bool()
LOSS_MASK = torch.tensor([[0] * 6 + [1] * 4, [0] * 6 + [1] * 3 + [0]]).bool()

# longest first where one is part of another
_HF_NAMES = {
    "text_model.model.embed_tokens.": "decoder.embedding.",
    "text_model.model.layer_norm.": "decoder.norm.",
    "text_model.model.layers.": "decoder.layers.",
    "vision_model.model.embeddings.class_embedding": "vision.class_embedding",
    "vision_model.model.embeddings.patch_embedding.": "vision.patch_embedding.",
    "vision_model.model.embeddings.position_embedding.weight": "vision.position_embedding",
    "vision_model.model.pre_layrnorm.": "vision.pre_norm.",
    "vision_model.model.post_layernorm.": "vision.post_norm.",
    "vision_model.model.encoder.layers.": "vision.layers.",
    "image_to_text_projection.latent_query": "connector.latents",
    "image_to_text_projection.": "connector.",
    ".x_attn.": ".attention.",
    ".self_attn_layer_norm.": ".attention_norm.",
    ".self_attn.inner_attn_ln.": ".attention.inner_norm.",
    ".self_attn.": ".attention.",
    ".final_layer_norm.": ".ffn_norm.",
    ".ffn.ffn_layernorm.": ".ffn.norm.",
    ".layer_norm1.": ".attention_norm.",
    ".layer_norm2.": ".ffn_norm.",
    ".mlp.": ".ffn.",
    ".q_proj.": ".query.",
    ".k_proj.": ".key.",
    ".v_proj.": ".value.",
    ".out_proj.": ".out.",
}


def _to_huggingface(name: str) -> str:
    """Our parameter name as Hugging Face writes it."""
    pairs = list(_HF_NAMES.items())
    if name.startswith("vision."):
        swaps = [p for p in pairs if not p[0].startswith((".final", ".ffn", ".self_attn_", ".x_"))]
    else:
        swaps = [p for p in pairs if not p[0].startswith((".layer_norm", ".mlp"))]
    if name.startswith("connector."):
        swaps = [p for p in swaps if not p[0].startswith(".self_attn")]
    else:
        swaps = [p for p in swaps if not p[0].startswith(".x_attn")]
    for theirs, ours in swaps:
        name = name.replace(ours, theirs, 1)
    return name


def toy_model() -> Kosmos:
    """The toy in float64, evaluating."""
    model = Kosmos(TOY).double().eval()
    state = model.state_dict()
    by_hf_name = {_to_huggingface(name): name for name in state}
    for j, hf_name in enumerate(sorted(by_hf_name)):
        tensor = state[by_hf_name[hf_name]]
        flat = torch.arange(1, tensor.numel() + 1, dtype=torch.float64)
        s = torch.sin(0.7 * flat + 1.3 * j).view_as(tensor)
        last = hf_name.rsplit(".", 2)
        if hf_name.endswith(".bias"):
            values = 0.1 * s
        elif "norm" in last[-2] or "_ln" in last[-2]:
            values = 1.0 + 0.1 * s
        elif hf_name.endswith("latent_query"):
            values = s
        else:
            values = 0.3 * s
        tensor.copy_(values)
    state["decoder.embedding.weight"][1] = 0.0
    return model


def huggingface_shapes(model: Kosmos) -> dict[str, list[int]]:
    """Shapes of the model's tensors under Hugging Face names."""
    return {_to_huggingface(name): list(t.shape) for name, t in model.state_dict().items()}


def toy_pixels() -> torch.Tensor:
    """The two images of the golden file."""
    return torch.sin(0.05 * torch.arange(2 * 3 * 28 * 28, dtype=torch.float64)).view(2, 3, 28, 28)
