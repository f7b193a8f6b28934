from tensorflow._api.v2.compat import v1 as v1
