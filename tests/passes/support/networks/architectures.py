"""Small networks of every kind that exporters write, with the number of channel groups that should shrink in each."""

import nets_attention  # noqa: F401 - each adds its networks to the table
import nets_bodies  # noqa: F401
import nets_control  # noqa: F401
import nets_convolution  # noqa: F401
import nets_formats  # noqa: F401
import nets_forms  # noqa: F401
import nets_layers  # noqa: F401
import nets_paddle  # noqa: F401
import nets_quantised  # noqa: F401
import nets_recurrent  # noqa: F401
import nets_shared  # noqa: F401
import nets_sklearn  # noqa: F401
import nets_tensorflow  # noqa: F401
from netcase import ARCHITECTURES

__all__ = ["ARCHITECTURES"]
