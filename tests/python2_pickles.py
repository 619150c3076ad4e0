"""Pickles as Python 2 wrote them, deflated and in base64.

By Python 2.7.18 with NumPy 1.16.6, of `params` below with `pickle` and `cPickle`, each in the
protocols 0, 1 and 2, which are all that it has.
"""

from __future__ import annotations

import base64
import zlib

import numpy as np

__all__ = ["PICKLES", "params"]


def params() -> dict[str, np.ndarray]:
    """What they hold; of names, ``b1`` was a unicode, the others were texts of bytes."""
    return {
        "W1": np.asfortranarray(np.arange(6.0).reshape(2, 3) / 7),
        "b1": np.array([0.5, -0.0, np.inf], np.float32),
        "every byte": np.arange(256, dtype=np.uint8).reshape(4, 64),
        "big": np.array([1, -2, 2**40], ">i8"),
        "flags": np.array([[True], [False]]),
        "none": np.zeros((0, 3)),
        "scalar": np.array(2.5),
        "long": np.zeros((2, 1), np.int16),  # lengths of the type long
    }


_PACKED = {
    "pickle, protocol 0": (
        "eNqFlWl7GzUURr/rVxQo2CwNo1klKE3ZMUuABloWQ5E0GhOwHeOlxFD47ZzrmbheAjxPXmcs3SO9V5p73a9niTrv"
        "TS+nsadmWoXpajJbn4TLeTyZrMbLCzefu7V6PI/hcrpYzldhqWap6rdxalq387NM9QeJWs5yFvOsVPBcqgezinG9"
        "mRtkDJluA1Uv17OoZlb1z3uNka2J4E8TpDWgZhOQ895dmczU2dnZ4I5WG8lGOld+kIh3mZftdKn8gtXGbrSQsUqN"
        "WGN07UwbNdqEWVZPk85X2m6ZajXaePEaNE23XtJMovPOy1OZLI68pOW1l+FVolEicZXMGDw99Jqvdt9OlrR2Mkk2"
        "Szs7ckZZ1nlpcpbJ8q2XrJDQcudcsurIS2Z2vCTXOt39MrwyB89VI4tZub9kc4iP5BhyvW85T1vLuZxJnj87QXGd"
        "F2qk5dz0wdY3q/bDK19O9h4wadPbg+vPkB4MxMOBWgZ8NTlYLpan4r4UV9UmHX8xkhFzkI9t8ykS8in0zhUUaXcF"
        "F/JqFtn2CopcQovuCu7JZHl0BUV10xXcIF6VpvkPxf3Y4zVkfyM72k2a8Umcr2/59VJquUz2sy11m22ZkkKZddny"
        "dpW5jOZdxiu5+bLYZlxKFZfVTgGU5ijj0h5kLG5TlKEcFahEFTLD5XDKf24qCcM5n5In+WpIDakhNaSG1JAaUkNq"
        "gyxyCFoHVCN43dx67vkXbr/40rDXf/mVV1+7c/J6otMsL8rK2DfevPvWvdP7b7/z7nvvf/DhR4OPP/n0s7PPv/jy"
        "wflXXz989M23330/HP7w4+OfnA91bEY/X/zy63gyvZz9Nl8sV09+v1r/8efTv/6WMmnLxWDSYNJg0mDSYNJg0mDS"
        "YNJg0mDSYNJg0mDSYNLAW3ir5Q1G8Bbewlt4C2/hLbyFt/AW3sJbeAvv4B28g3fwDt7BO3gH7+AdvIN38A7ewTt4"
        "B+/hPbyH9/Ae3hdSPVJKCN7De3gvVQXv4T28hw/wQUt1IvgAH+ADfIAP8AE+wAf4AB/gA3yAr6X4tdQugq/ha/ga"
        "voav4Wv42rXFXMPX8DV8DR/ho5ZmgOAjfCyk6BF8hI/wET5KM4CP8BE+SlHBN1J48A18A9/AN/ANfAPfwDfwDXwD"
        "39RtMTbSJit54Su9KbhFcGM3l8F0v9iqrC22SvpFVbTFtmwb5P80hvy+rCfNq2qb1/hyKt2rOuheVde9jHQvo/d/"
        "z8y2gaWg5lkDM2LIFDu/Iea4gZl/bWASLw3HSMM5+QeUJGAQ"
    ),
    "pickle, protocol 1": (
        "eNplk2dUE0EQx9MoHkGx0iyIgIclJhRBRBJQwBCIenKC3Vw4CBoSJmzU2LD33nvvvffee8HeFXvvveA1Xz5k3t7t"
        "vZ2d+d1/Z7Y/iHBSZrFaaBAbLfaCQofCaLXRigK7GeUbbDaDA+tqo41WSxGy2Y0IAwnOb8MsObwbpLhOhEBGiilw"
        "Q+BOgAeuEzNrOikCT2FzDnIU0hiUw0lJbixgjFOMwIsAOa6TkuJ48Nbr9WlljHEvNl95SqtUYqQIKiDwoUi3XLMh"
        "rwgqmiS4iQdWMjG0ygRU4WgSNmFVEwugVFCNB/gS4McB+oG/CyCAB0jEIghEUJ3KlohEIia2hhNRk0XUIiCIQzBy"
        "anOA3CgI5gF1CAgRFIS6AMJ4gJxJq2aegcwohroIcIqUZKkg3Mmpx3LqE9BAkMKQGprkWqUKI5UiwW5vL2CHenKI"
        "lhmHhblUmEvUOzj3UzUoEDSiSCmVnwdKJ0LFIiIIiPwvJYqTkh8L0byUxgTEcFISINZFShNeip/wL+Iy3v4yn9wC"
        "xCFoSpEY3ZO2OYIoB6Ih3sluxrITCFBzbJlOg0DD0e0qSOTpSQQ0FyrVwoWezNEzOZZYIpW5uXt4lsO85N7lK/hU"
        "rFS5StVqvn7+AYHVa9SsFVQ7uE5IaFhdPLxe/QYNFY2UqojIqOjGMbFN4prGN0tQaxKTmrdITkltqU3TpWfoW7Vu"
        "Q7TNJNtlZbfv0LFT5y5duxkoYw6dm2fK797DXGCxFoKtCNl79urt6NO3X/8BxQMHDR4ydNjwESNHjR4zdtz4CRMn"
        "TZ4yddr0GTNnzZ4zd978BQsXLV6ydNnyFStXrV6zdt36DRs3bd6yddv2HTt37d6zd9/+AwcPHT5y9NjxEydPnT5z"
        "9tz5CxcvlVy+cvXa9Rs3b92+c/fe/QcPSx89fvL02fMXL1+9fvP23fsPHz99/vL12/cfP3/9/vO3DFIQpFKke5HR"
        "YDbYoKXzkLXsIacRoGMOOZxtHqZenny5ZBpIR5BBkTKz1ZIHemdQKzaoNQFtnHeI4PsiAtrylckkgBRavJ1LZbL4"
        "vpBxPZCNoD1lV/wDDmSKvw=="
    ),
    "pickle, protocol 2": (
        "eNplk3dU01AUxpO0INaqgCKIC1kWxUqRJSJFlBmtEIngtimFoqXllhStEwfLLe69917gHrj3njhx770HZtV/es9L"
        "Xk7uze/7zr0v+dgIQGSk2GA0aAHVGMzZORa5xmjSyrPNejpLbTKpLZL+Jq3GaMilTWYNLQGMr5IY0vksiHCkAMQk"
        "SoFdEdgTUEOGoziCiwrBQShNpy05WgnUJLGMMJAwObQIahEgleEiEo2A2iqVKrGaCe6GIzTUoUpIBOrS4EiRdhl6"
        "dWYuOOkwHafkrGNk6hFQn5XBcLQQXHQMmVJAA57sSoAbRx4ODW3I7gwZQxFoRENjKg1DEIT5sImV3ZRlNyPAg2WL"
        "CqA5S84IAk+e7EWAt+DZx4bsy5ClDE/JXPnMGgUtaJBRJJaqAD+rQEtWoBUB/rx5pketddJiMgARorIsm13KUu8E"
        "ZlUIe5WwX1aWc+mnSpDT0IYiRVRWJgRY4QoWHkhAW8F9EOs+KwyCefchBIRy7iMhzMZ9O8a9m2ACrebjL/PIvYBw"
        "GtpTpESbpzVZPCgLrYUIq2gHVjSSACUrKsajCiGKlTUroCMvG01AJ2EcnW1kY6iSFE4ExURiO/saDjUltaS169R1"
        "dHKuV9+lgatbQ/dGjZs0bebR3NPL28e3hcyvZSv/1vI2AYrAtkHBIaFh7cLbR3SIVEZ1jO7UOSY2Lj4hEe/SVdUt"
        "KZnonkL2SE3r2at3n779+g9QU5p0bUamLmvgIH22wZgDplzanDd4iGXosOEjRo7KHz1m7LiCwqLikvETJk6aPGXq"
        "tNLpM2bOmj1n7rz5CxYuWrxk6bLlK1auWr1m7br1GzZu2rxl67btO3aWle/avWfvvv0HDh46XHHk6LHjJ06eOn3m"
        "7LnzFy5eunzl6rXrN27eul155+69+w8eVj16/OTps+cvXr56/ebtu/cfPn76/OXrt+8/fv76/edvNcTSEEeR9rka"
        "tV5tgnhrdxPY7iYSgDPd9dNJS0gHfkTiKOhCQ1eKFOuNhkxQWeu7sfVJBCT//zkI7hAEQnd+GikEkMIR7mEzjVTm"
        "EIi5gafR0JMyy/8Bp5qHdQ=="
    ),
    "cPickle, protocol 0": (
        "eNqV1emD00QYx/H381egoC0qaya9ZhRZDq96rMoqeERgzlLsEdMUt4r+7X6nTbXUKPji6bZpPnl+k50n7fpSivPO"
        "YrkIHVHmwi3W83Jz4pZVOJmvZ/XUVJXZiIdVcMvFqq7WrhZlT3R354mF331f9kV3nIn6vGM7or5bDvgot4fGPVE3"
        "J/t6UwZRDkX3vBNVR6RvZTp7xJk9UlzviLOzs/E1KbbF9ew4y/iCa9oVaGYmK2IqMSHC5Kinbnrm26tOtm2sPGgj"
        "s6bPs3/rU1xkksq2/e5ZKUopW3vJvGnW23eK/cNOvRetKHXZ1+nhh+JCHb0fxWb591lMKfvtgQZ/rz5lGtFMHvVp"
        "L2+LCzucP/eGRDq/Mt6/uvzoQDg+4NMBO5ofXS4MT5vsdjpJ4Yft4UfHd3N6uD2kau7mjZe5my3F/zTG/6jw/Ln/"
        "vEaziPA0VJtLdlOnWZG6dS151qylL8bD/n4968N9mMuX2If7LDnVo/rUgBpSI0oVdbHgL3c5c0XFa1oFq5FIiZRI"
        "iZRIiZRIiZSK0pSh0NJRnsLLeOmVVy9fee31otO9+sabb107eTuTea8/GI6Ufufd6+/dOL156/ad9z/48KOPx598"
        "+tnnZ198+dXd86+/uXf/2+++/6Eofnzw8JGxzoc4eTx98tNsvliWP1erev30l4vNr789+/2PtJ93+1oRUhFSEVIR"
        "UhFSEVIRUhFSEVIRUhFSEVIRUhFS4TVey7T7KLzGa7zGa7zGa7zGa7zGa7zGa7zBG7zBG7zBG7zBG7zBG7zBG7zB"
        "G7zBG7zFW7zFW7zF20Ha+WkMKLzFW7xNE4G3eIu3eId3Mk0WhXd4h3d4h3d4h3d4h3d4h3d4h/dpcGWaOwrv8R7v"
        "8R7v8R7vzW4QPd7jPd7jAz7INMgUPuDDIA0shQ/4gA/4kAYZH/ABH9LI4GMaK3zER3zER3zER3zER3zER3z0u1GL"
        "++fZypmZqdLPTt4+Sr3dKO2eZi+Y8/7N5qqz5SI9avL252Q+aPmVmOaH0zn8P8/uv54OJ38CZTcpwg=="
    ),
    "cPickle, protocol 1": (
        "eNqrLWTUCGXJy89LLWRKzivNLajUS84vStXLLc0pyUwsKkqs5IovSk3OzysuKSpNLuEqZNaAKOPKS4FIF7JoeDOU"
        "hDImlQQVsmp4MwJ53swlUEUpJZUFqVyFbBqhTGkWQAlGoCJ2DW/mUEYbPz8/r/9AACaAJiR5GhhwhQLpUNa0nMT0"
        "4kKODGaNDCTDOcGGMwHNyACZl2QINY8LbF4NdvOYGIGsCCYGBoYkw0JuNBN5wCYyQ8xLM4Gax4vPfTxAk+yBuAGI"
        "6oFuZQo3LORDM5Yf6lCgweyeBoZcoQYMUHB7Wy4I2U9S8QSiQ1D6EZS+ZL8dLP3MHmgwc1JmeqEAmsmCyA7OhAWo"
        "ENjBdtgdLAG1mvE/BPwDMsECQDu4UstSiyoVkipLUguF0awSAVvF4u0AsawUFtqieEI7BGw0IxMzCysbOwcnFzcP"
        "Lx+/gKCQsIiomLiEpJS0jKycvIKikrKKqpq6hqaWto6unr6BoZGxiamZuYWllbWNrZ29g6OTs4urm7uHp5e3j6+f"
        "f0BgUHBIaFh4RGRUdExsXHxCYlJySmpaekZmVnZObl5+QWFRcUlpWXlFZVV1TW1dfUNjU3NLa1t7R2dXd09vX/+E"
        "iZMmT5k6bfqMmbNmz5k7b/6ChYsWL1m6bPmKlatWr1m7bv2GjZs2b9m6bfuOnbt279m7b/+Bg4cOHzl67PiJk6dO"
        "nzl77vyFi5cuX7l67fqNm7du37l77/6Dh48eP3n67PmLl69ev3n77v2Hj58+f/n67fuPn79+//n77z8wXNmKkxNz"
        "EosKxdDCVBwYppqgNAGMFw5ItLA4ANWz5OTnpRdKoKmWRE3vmUbQGJDClz5ZIFFbqgcA2ctiOw=="
    ),
    "cPickle, protocol 2": (
        "eNprYKotZNQIZcnLz0stZErOK80tqNRLzi9K1cstzSnJTCwqSqzkii9KTc7PKy4pKk0u4SpkhqjiykuByBayeDO0"
        "hjImtQcVsmp4M3ozeDO3QZWklFQWpHIVsoUypVkAxRmBStg1vJlDGW38/Py8/gMBmPBmKEnqDAUSoaxpOYnpxYUc"
        "GcwZCFM5QaYyeTO2ZQANSjKEGsQFNqgGi0FMjEAqgomBgSHJsJAbxSgekFHMrSCD0kygBvHidBEP0Ah7IG4Aonqg"
        "65jCDQv5UMzjhziNuS2DvSPUgAEKbm/LBSH7SSqeQHQISj+C0pfst4Oln9kDjWROykwvFEAxUxDhxkxYqAmB3WiH"
        "xY0SUDsZ/0PAPyATLAA0nCu1LLWoUiGpsiS1UBjFDhGQHSzeDuAgLYUFqSiuIA0Bm8nIxMzCysbOwcnFzcPLxy8g"
        "KCQsIiomLiEpJS0jKyevoKikrKKqpq6hqaWto6unb2BoZGxiamZuYWllbWNrZ+/g6OTs4urm7uHp5e3j6+cfEBgU"
        "HBIaFh4RGRUdExsXn5CYlJySmpaekZmVnZObl19QWFRcUlpWXlFZVV1TW1ff0NjU3NLa1t7R2dXd09vXP2HipMlT"
        "pk6bPmPmrNlz5s6bv2DhosVLli5bvmLlqtVr1q5bv2Hjps1btm7bvmPnrt179u7bf+DgocNHjh47fuLkqdNnzp47"
        "f+HipctXrl67fuPmrdt37t67/+Dho8dPnj57/uLlq9dv3r57/+Hjp89fvn77/uPnr99//v77DwxQtuLkxJzEokIx"
        "lMAUBwamZgZ7ZygHJCpYHIBKWXLy89ILJVAUSiIn5EwjaKhL4Ux/LJB4LNUDAOoeXvE="
    ),
}

PICKLES = {name: zlib.decompress(base64.b64decode(text)) for name, text in _PACKED.items()}
"""The pickles by what wrote them."""
