from tensorflow._api.v2.compat.v1 import nn as nn
