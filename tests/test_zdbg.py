import numpy as np
import test_ablate as T, stg_lab as lab
guided=T.guided
def test_it(tiny,guided):
    fresh = T.sweep(tiny, step=[2, 3], guidance=lab.CFG(4) + lab.STG(2, lab.skip([1]), start=0.25), seed=5).load()
    taken = lab.ablate(tiny.pipe, [2, 3], state=guided, parts=T.PARTS, progress=False).load()
    print(list(fresh.data_vars)==list(taken.data_vars))
    for n in fresh.data_vars:
        if not fresh[n].equals(taken[n]): print("X",n,float(abs(fresh[n]-taken[n]).max()), [ (c, fresh.coords[c].equals(taken.coords[c])) for c in taken.coords])
    assert 0
