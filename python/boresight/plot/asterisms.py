"""Names of bright stars and figures of constellations, by Hipparcos numbers.

The names are those of the IAU's list. There is no standard for the lines of constellations; other
atlases draw some constellations differently.
"""

from __future__ import annotations

import itertools

__all__ = ["LINES", "STAR_NAMES"]

_NAMES = """
Sirius 32349, Canopus 30438, Rigil Kentaurus 71683, Arcturus 69673, Vega 91262, Capella 24608,
Rigel 24436, Procyon 37279, Betelgeuse 27989, Achernar 7588, Hadar 68702, Altair 97649,
Acrux 60718, Aldebaran 21421, Spica 65474, Antares 80763, Pollux 37826, Fomalhaut 113368,
Deneb 102098, Mimosa 62434, Regulus 49669, Adhara 33579, Castor 36850, Gacrux 61084,
Shaula 85927, Bellatrix 25336, Elnath 25428, Miaplacidus 45238, Alnilam 26311, Alnair 109268,
Alnitak 26727, Alioth 62956, Dubhe 54061, Mirfak 15863, Wezen 34444, Sargas 86228,
Kaus Australis 90185, Avior 41037, Alkaid 67301, Menkalinan 28360, Atria 82273, Alhena 31681,
Peacock 100751, Mirzam 30324, Alphard 46390, Polaris 11767, Hamal 9884, Algieba 50583,
Diphda 3419, Mizar 65378, Nunki 92855, Menkent 68933, Mirach 5447, Alpheratz 677,
Rasalhague 86032, Kochab 72607, Saiph 27366, Denebola 57632, Algol 14576, Tiaki 112122,
Muhlifain 61932, Aspidiske 45556, Suhail 44816, Alphecca 76267, Mintaka 25930, Sadr 100453,
Eltanin 87833, Schedar 3179, Naos 39429, Almach 9640, Caph 746, Izar 72105, Dschubba 78401,
Larawag 82396, Merak 53910, Ankaa 2081, Enif 107315, Scheat 113881, Sabik 84012, Phecda 58001,
Aludra 35904, Markab 113963, Aljanah 102488, Acrab 78820, Ruchbah 6686, Megrez 59774,
Alcyone 17702, Gienah 59803, Zubeneschamali 74785, Unukalhai 77070, Sheratan 8903, Phact 26634,
Kraz 61359, Mebsuta 32246, Tarazed 97278, Porrima 61941, Vindemiatrix 63608, Cor Caroli 63125,
Albireo 95947, Sadalsuud 106278, Sadalmelik 109074, Rasalgethi 84345, Kornephoros 80816,
Nihal 25606, Arneb 25985, Deneb Algedi 107556, Thuban 68756, Rastaban 85670, Alderamin 105199,
Errai 116727, Menkar 14135, Mira 10826, Zubenelgenubi 72622, Cebalrai 86742, Yed Prior 79593,
Algorab 60965, Minkar 59316, Alkes 53740, Zosma 54872, Chertan 54879, Tejat 30343, Wasat 35550,
Gomeisa 36188, Furud 30122, Ain 20889, Hassaleh 23015, Segin 8886, Achird 3821, Algenib 1067,
Homam 112029, Matar 112158, Biham 109427, Meissa 26207, Cursa 23875, Zaurak 18543,
Sulafat 93194, Sheliak 92420, Seginus 71075, Nekkar 73555, Muphrid 67927, Talitha 44127,
Pherkad 75097, Kaus Media 89931, Kaus Borealis 90496, Alnasl 88635, Ascella 93506, Lesath 85696
"""

#: Chains of stars joined by lines, by the abbreviation of the constellation.
_FIGURES = """
Ori: 26727 26311 25930 25336 26207 27989 26727 27366 24436 25930, 27989 28614 29426 29038
UMa: 54061 53910 58001 59774 54061, 59774 62956 65378 67301
UMi: 11767 85822 82080 77055 79822 75097 72607 77055
Cas: 746 3179 4427 6686 8886
Cyg: 102098 100453 98110 95947, 102488 100453 97165 95853
Lyr: 91262 91919 91971 91262, 91971 92420 93194 92791 91971
Aql: 97278 97649 98036, 97649 95501 93747
Leo: 57632 54872 54879 57632, 54872 50583 50335 48455 47908, 50583 49583 49669 54879
Gem: 36850 32246 30343 29655, 37826 35550 34088 31681, 37826 36850
Tau: 25428 20889 20455 20205 20894 21421 26451, 20205 18724 15900
Aur: 24608 28360 28380 25428 23015 23453 24608
Per: 15863 17358 18532 18614, 15863 14328, 14576 15863
And: 677 3092 5447 9640
Peg: 113963 113881 677 1067 113963, 113963 112029 109427 107315, 113881 112158
CMa: 32349 30324, 32349 33579 34444 35904, 33579 30122
CMi: 37279 36188
Sco: 80763 78401 78820, 78401 78265, 80763 81266 82396 82514 82729 84143 86228 87073 86670 85927
Sgr: 88635 89931 90185 88635, 89931 90496 92041 89931, 92041 92855 93864 93506 92041, 90185 93506
Cru: 60718 61084, 62434 59747
Cen: 71683 68702 66657 61932
Boo: 69673 72105 74666 73555 71075 71053 69673, 69673 67927
CrB: 76127 75695 76267 76952 77512 78159
Vir: 65474 61941 63090 63608, 61941 60129 57757, 65474 66249 63090
Lib: 73714 72622 74785 76333 72622
Crv: 59316 59803 60965 61359 59316
Her: 84345 80816 81693 81833 84380 83207 81693
Oph: 86032 86742 84012 81377 79882 79593 80883 86032
Dra: 87833 85670 85829 87585 87833
Cep: 105199 106032 116727 112724 109492 105199
Ari: 13209 9884 8903 8832
Cap: 100064 100345 104139 107556, 100345 102485 105881 107556
Aqr: 106278 109074 110395 110960 111497
Cet: 3419 1562 5364 6537 8645 8102 3419, 10826 12706 14135, 8645 10826
Eri: 23875 22109 21444 18543 17378 16537, 7588 9007 10602
Lep: 23685 25606 25985 24305 23685
Col: 25859 26634 27628
Car: 45238 50099 52419, 41037 45556
Vel: 39953 42913 45941 44816 39953
Pup: 39429 39757, 39429 38170 36377 31685
Gru: 109268 112122 108085, 109268 112122
PsA: 113368 111954 109285 107608
TrA: 82273 77952 74946 82273
Pav: 100751 105858, 100751 102395
Phe: 2081 5165 7083
Tri: 8796 10064 10670 8796
Del: 101421 101769 101958 102532 102281 101769
Hya: 46390 43813 43109 42313 42799 43234 43813
Cnc: 44066 42911 42806 43103, 42911 40526
Crt: 53740 54682 55705 55282 53740
"""

STAR_NAMES = {
    int(number): name
    for name, number in (item.strip().rsplit(" ", 1) for item in _NAMES.split(","))
}
"""Proper names by Hipparcos number, the brighter stars first."""


def _pairs() -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    for line in _FIGURES.strip().splitlines():
        for chain in line.partition(":")[2].split(","):
            stars = [int(number) for number in chain.split()]
            pairs += itertools.pairwise(stars)
    return pairs


LINES = _pairs()
"""Pairs of stars that are joined by a line."""
