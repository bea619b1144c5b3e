;; trick: a schema that is nested a hundred thousand deep
;; at: load
;; expect: the input schema of `act`: it is not JSON: recursion limit exceeded
;; action: act {"allOf":<<20000 [>><<20000 ]>>}
