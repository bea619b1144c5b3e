;; trick: a function that takes the compiler much memory: tables of branches out of thousands of blocks
;; at: load
;; expect: of memory to compile (`engine.compile-memory`)

(func $bomb (param i32)
  <<3000 block
  >>
  <<300 block (br_table <<3000 % >> (local.get 0)) end
  >>
  <<3000 end
  >>)
