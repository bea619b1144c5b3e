;; trick: a table of a million elements from the start
;; at: load
;; expect: table index 0 has a minimum element size of 1000000 which exceeds the limit of 100000

(table $table 1000000 funcref)
