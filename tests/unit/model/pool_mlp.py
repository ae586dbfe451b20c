"""A connector that is not ours: means of neighboring patches, through two linear layers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kosmos.model.config import ConnectorConfig, VisionConfig
from kosmos.model.parts import Connector, LinearLayers, Part


class PoolMlp(Connector):
    """What is said of it."""

    module = "tests.unit.model.pool_mlp:PoolMlpConnector"
    unused = ("num_layers", "num_heads", "ffn_multiple", "attention_dropout")

    @staticmethod
    def part(config: ConnectorConfig, vision: VisionConfig, decoder_width: int) -> Part:
        rows, width = config.num_queries, config.width
        linears = {
            "fc1": LinearLayers(vision.width, width, 1, rows),
            "fc2": LinearLayers(width, decoder_width, 1, rows),
        }
        return Part(
            parameters={"linears": sum(layers.parameters for layers in linears.values())},
            linears=linears,
            layer_input=0,
            layer_kept=0,
            end_kept=rows * (vision.width + 2 * width + decoder_width),
        )


class PoolMlpConnector(nn.Module):
    """What it does."""

    def __init__(self, config: ConnectorConfig, vision_width: int, decoder_width: int) -> None:
        super().__init__()
        self.num_queries = config.num_queries
        self.fc1 = nn.Linear(vision_width, config.width)
        self.fc2 = nn.Linear(config.width, decoder_width)

    def forward(self, features: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool1d(features.transpose(1, 2), self.num_queries)
        output: Tensor = self.fc2(torch.relu(self.fc1(pooled.transpose(1, 2))))
        return output
