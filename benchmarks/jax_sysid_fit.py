"""The same fit by jax-sysid, in an environment of its own (it needs an old jax); run by `benchmarks.estimators`.

    python jax_sysid_fit.py DATA.npz RESULT.npz ORDER

Its recommended recipe: Adam, then L-BFGS, on the free run with the initial state free (jax-sysid 1.1's README), with
its small regularisation, which is what lets it fit best here. Compilation counts: whoever fits once pays for it.
"""

import sys
import time

import jax
import numpy as np
from jax_sysid.models import LinearModel

jax.config.update("jax_enable_x64", True)
data = np.load(sys.argv[1])
order = int(sys.argv[3])
began = time.perf_counter()
model = LinearModel(order, data["y"].shape[1], data["u"].shape[1], feedthrough=True)
model.loss(rho_x0=1e-6, rho_th=1e-6)
model.optimization(adam_epochs=1000, lbfgs_epochs=1000, iprint=-1)
model.fit(data["y"], data["u"])
seconds = time.perf_counter() - began
predicted, _ = model.predict(model.x0, data["u"])
np.savez(sys.argv[2], predicted=np.asarray(predicted), seconds=seconds)
