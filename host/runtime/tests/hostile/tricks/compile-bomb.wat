;; trick: three kilobytes that keep the compiler busy for minutes: nested loops that all change all of many locals
;; at: load
;; expect: of processor time to compile (`engine.compile-cpu`)

(func $bomb (param i64)
  (local <<300 i64 >>)
  <<300 loop
  >>
  <<300 (local.set % (i64.add (local.get %) (local.get 0)))
  >>
  <<300 (br_if 0 (i64.eqz (local.get 1))) end
  >>)
