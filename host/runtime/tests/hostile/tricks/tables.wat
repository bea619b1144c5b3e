;; trick: more tables than a plugin may have
;; at: load
;; expect: defined tables count of 100 exceeds the per-instance limit of 32

<<100 (table $t% 1 funcref)
>>
