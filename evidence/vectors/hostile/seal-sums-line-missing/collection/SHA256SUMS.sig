0D UђПЎЁВCG-Љw¬k=
ЈмуЊґh:ь:ћ]^ї N•nЛNЂ£ґkЊCSї*yЙњФa*n«P–MПc~MЬC